using Tiller.Features;

namespace Tiller.Evaluation;

/// <summary>Finds and reads the files that a task names.</summary>
/// <param name="folder">The task's folder.</param>
/// <param name="data">The folder that stands for $DATA; null if there is none.</param>
/// <param name="cancellationToken">Checked while files are read.</param>
internal sealed class TaskFiles(string folder, string? data, CancellationToken cancellationToken)
{
    private const string DataPrefix = "$DATA/";

    /// <summary>Keys by which items of a list are chosen: <see cref="Pick"/>.</summary>
    public static readonly string[] PickKeys = ["shuffle", "skip", "take"];

    private static readonly string[] s_promptKeys = ["file", "column", "field", "where", "alternate", "form", .. PickKeys];

    /// <summary>Checked while files are read.</summary>
    public CancellationToken CancellationToken => cancellationToken;

    /// <summary>A path: in the task's folder, or, if it begins with $DATA/, in the folder of data.</summary>
    /// <exception cref="TaskFileException">The value is no text, or there is no folder of data.</exception>
    public string PathOf(TaskNode node)
    {
        string path = node.Text();
        return !path.StartsWith(DataPrefix, StringComparison.Ordinal) ? Path.Combine(folder, path)
            : data is not null ? Path.Combine(data, path[DataPrefix.Length..])
            : throw node.Fail(
                $"is \"{path}\", in a folder of published data that you have yourself: set TaskOptions.Data to that folder.");
    }

    /// <summary>The prompts of a file: a path, or a mapping that says where in the file they are and which of them are meant.</summary>
    /// <exception cref="TaskFileException">The mapping is wrong, or leaves no prompt.</exception>
    /// <exception cref="PromptFileException">The file cannot be read.</exception>
    public Prompt[] Prompts(TaskNode node)
    {
        if (!node.IsMapping)
        {
            return [.. PromptFile.Read(PathOf(node), cancellationToken)];
        }

        node.CheckKeys(s_promptKeys);
        var selection = new PromptSelection
        {
            Column = node.Find("column")?.Text(),
            Field = node.Find("field")?.Text(),
            Where = node.Find("where") is { } where ? [.. where.Pairs().Select(static x => Condition(x.Key, x.Value))] : [],
            Alternate = node.Find("alternate")?.Text(),
        };
        string? form = Form(node.Find("form"), "{prompt}");
        var prompts = Pick(node, PromptFile.Read(PathOf(node["file"]), selection, cancellationToken));
        return [.. prompts.Select(prompt => form is null ? prompt
            : prompt is TextPrompt text ? new TextPrompt(form.Replace("{prompt}", text.Text, StringComparison.Ordinal))
            : throw node.Fail("has a form, and its prompts are chats: a form is for texts."))];
    }

    /// <summary>The form of a question or prompt; null if there is none.</summary>
    /// <exception cref="TaskFileException">It lacks the place where the text goes.</exception>
    public static string? Form(TaskNode? node, string place) => node is null ? null
        : node.Text().Contains(place, StringComparison.Ordinal) ? node.Text()
        : throw node.Fail($"must hold {place}, where the text goes.");

    /// <summary>Some of a list: shuffled if there is a seed for it, then from an item on, then so many.</summary>
    /// <exception cref="TaskFileException">None is left.</exception>
    public static T[] Pick<T>(TaskNode node, IReadOnlyList<T> items)
    {
        T[] all = [.. items];
        if (node.Find("shuffle") is { } seed)
        {
            new Random(seed.Number(0, int.MaxValue)).Shuffle(all);
        }

        T[] picked = [.. all.Skip(node.Find("skip")?.Number(0, int.MaxValue) ?? 0).Take(node.Find("take")?.Number(1, int.MaxValue) ?? int.MaxValue)];
        return picked.Length > 0 ? picked : throw node.Fail("has no prompt left: skip fewer, or name a file with more prompts.");
    }

    private static RecordCondition Condition(string field, TaskNode node)
    {
        if (!node.IsMapping)
        {
            return new RecordCondition(field) { Equal = node.Text() };
        }

        node.CheckKeys("not", "at_least", "at_most");
        return new RecordCondition(field)
        {
            Other = node.Find("not")?.Text(),
            AtLeast = node.Find("at_least")?.Number(double.MinValue, double.MaxValue),
            AtMost = node.Find("at_most")?.Number(double.MinValue, double.MaxValue),
        };
    }
}
