using System.Globalization;
using System.Numerics;
using SharpYaml;
using SharpYaml.Events;
using SharpYaml.Model;

namespace Tiller.Evaluation;

/// <summary>A value in a task file, with its place in the file for error messages.</summary>
internal sealed class TaskNode
{
    private readonly string _file;
    private readonly string _name; // the path of the value, such as scorers[1].lexicon
    private readonly YamlElement _value;

    private TaskNode(string file, string name, YamlElement value) => (_file, _name, _value) = (file, name, value);

    /// <summary>Whether the value is a mapping of keys to values.</summary>
    public bool IsMapping => _value is YamlMapping;

    /// <summary>Whether the value is a text or a number.</summary>
    public bool IsScalar => _value is YamlValue;

    private int Line => 1 + (_value switch
    {
        YamlMapping mapping => mapping.MappingStart.Start.Line,
        YamlSequence sequence => sequence.SequenceStart.Start.Line,
        YamlValue { Scalar: Scalar scalar } => scalar.Start.Line,
        _ => -1,
    });

    /// <summary>Parses a file, which must contain one document.</summary>
    /// <exception cref="TaskFileException">The file is not YAML, or does not contain exactly one document.</exception>
    public static TaskNode Parse(string file, string text)
    {
        YamlStream stream;
        try
        {
            stream = YamlStream.Load(new StringReader(text));
        }
        catch (YamlException e)
        {
            throw new TaskFileException(file, e.Start.Line + 1, $"this is not YAML: {e.Message}", e);
        }

        return stream.Count == 1 && stream[0].Contents is { } root
            ? new TaskNode(file, "the task", root)
            : throw new TaskFileException(file, 0, $"expected one document, got {stream.Count}: write the task as one mapping of keys to values.");
    }

    /// <summary>Makes the exception for a problem with this value.</summary>
    public TaskFileException Fail(string problem, Exception? cause = null) => new(_file, Line, $"{_name} {problem}", cause);

    /// <summary>Checks that the mapping has no other keys than <paramref name="known"/>.</summary>
    /// <param name="known">All allowed keys.</param>
    /// <exception cref="TaskFileException">The value is not a mapping, or has another key.</exception>
    public void CheckKeys(params ReadOnlySpan<string> known)
    {
        foreach (var (key, _) in Mapping())
        {
            if (!known.Contains(Key(key)))
            {
                throw Fail($"has the key '{Key(key)}', which means nothing here; expected some of {string.Join(", ", known!)}.");
            }
        }
    }

    /// <summary>The value of a key; null if the key is missing or its value is null.</summary>
    /// <exception cref="TaskFileException">The value is not a mapping.</exception>
    public TaskNode? Find(string key) => Mapping().TryGetValue(key, out var value) && value is not null && !IsNull(value) ? Child(key, value) : null;

    /// <summary>The value of a key.</summary>
    /// <exception cref="TaskFileException">The value is not a mapping, or the key is missing.</exception>
    public TaskNode this[string key] => Find(key) ?? throw Fail($"lacks the key '{key}'.");

    /// <summary>Keys and values, in the order of the file.</summary>
    /// <exception cref="TaskFileException">The value is not a mapping.</exception>
    public IEnumerable<(string Key, TaskNode Value)> Pairs() => Mapping().Select(pair => (Key(pair.Key), Child(Key(pair.Key), pair.Value!)));

    /// <summary>The values of a list.</summary>
    /// <exception cref="TaskFileException">The value is not a list.</exception>
    public IReadOnlyList<TaskNode> List() => _value is YamlSequence sequence
        ? [.. sequence.Select((value, i) => new TaskNode(_file, $"{_name}[{i}]", value))]
        : throw Fail("must be a list.");

    /// <summary>The texts of a list.</summary>
    /// <exception cref="TaskFileException">The value is not a list of texts, or is empty.</exception>
    public string[] Texts()
    {
        string[] texts = [.. List().Select(item => item.Text())];
        return texts.Length > 0 ? texts : throw Fail("must have at least one entry.");
    }

    /// <summary>The value as text.</summary>
    /// <exception cref="TaskFileException">The value is not a text.</exception>
    public string Text() => _value is YamlValue value ? value.Value : throw Fail("must be a text.");

    /// <summary>The value as true or false.</summary>
    /// <exception cref="TaskFileException">The value is neither.</exception>
    public bool Truth() => _value is YamlValue { Value: "true" or "false" } value
        ? value.Value == "true"
        : throw Fail("must be true or false.");

    /// <summary>The value as a number within bounds.</summary>
    /// <exception cref="TaskFileException">The value is not a number, or is out of bounds.</exception>
    public T Number<T>(T low, T high)
        where T : struct, INumber<T> =>
        _value is YamlValue value && T.TryParse(value.Value, NumberStyles.Float, CultureInfo.InvariantCulture, out var number)
            && number >= low && number <= high
                ? number
                : throw Fail(string.Create(CultureInfo.InvariantCulture, $"must be a number from {low} to {high}."));

    private TaskNode Child(string key, YamlElement value) => new(_file, _name == "the task" ? key : $"{_name}.{key}", value);

    private YamlMapping Mapping()
    {
        var mapping = _value as YamlMapping ?? throw Fail("must be a mapping of keys to values.");
        string? twice = mapping.Select(pair => Key(pair.Key)).GroupBy(static key => key, StringComparer.Ordinal)
            .FirstOrDefault(static keys => keys.Count() > 1)?.Key;
        return twice is null ? mapping : throw Fail($"has the key '{twice}' twice.");
    }

    private string Key(YamlElement key) => (key as YamlValue)?.Value ?? throw Fail("has a key that is not a text.");

    private static bool IsNull(YamlElement value) => value is YamlValue { Scalar.Style: ScalarStyle.Plain, Value: "" or "null" or "~" };
}
