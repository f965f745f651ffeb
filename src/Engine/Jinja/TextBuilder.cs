using System.Text;

namespace Tiller.Jinja;

/// <summary>Builds a text with the origins of its characters.</summary>
internal sealed class TextBuilder(Run run)
{
    private readonly StringBuilder text = new();
    private readonly List<int> changes = [];

    public Run Run => run;

    public int Length => text.Length;

    private bool Last => (changes.Count & 1) == 1;

    public void Append(string value, bool content)
    {
        Begin(value.Length, content);
        text.Append(value);
    }

    public void Append(ReadOnlySpan<char> value, bool content)
    {
        Begin(value.Length, content);
        text.Append(value);
    }

    public void Append(char value, bool content)
    {
        Begin(1, content);
        text.Append(value);
    }

    public void Append(char value, int count, bool content)
    {
        Begin(count, content);
        text.Append(value, count);
    }

    public void Append(Text value) => Append(value, 0, value.Value.Length);

    public void Append(Text value, int start, int length)
    {
        if (length == 0)
        {
            return;
        }

        int at = text.Length;
        int next = value.ChangesUpTo(start);
        Begin(length, (next & 1) == 1);
        for (ReadOnlySpan<int> places = value.Changes; next < places.Length && places[next] < start + length; next++)
        {
            changes.Add(at + places[next] - start);
        }

        text.Append(value.Value, start, length);
    }

    /// <summary>Appends Python's str() of a value.</summary>
    public void AppendStr(JinjaValue value) => value.Str(this);

    public Text ToText(bool safe = false) =>
        text.Length == 0 && !safe ? Text.Empty : Text.Of(text.ToString(), changes.Count == 0 ? [] : [.. changes], safe);

    private void Begin(long length, bool content)
    {
        if (length == 0)
        {
            return;
        }

        run.ChargeText(text.Length + length > run.Limits.TextLength ? text.Length + length : length);
        if (content != Last)
        {
            changes.Add(text.Length);
        }
    }
}
