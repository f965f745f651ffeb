namespace Tiller.Features;

/// <summary>Takes the items of one file that a selection asks for, and puts them in its order.</summary>
internal sealed class RecordSieve
{
    private readonly PromptSelection _selection;
    private readonly HashSet<string> _missing; // fields that no item has had yet
    private readonly List<string> _keys = []; // of the items taken, what stands in the field that alternates

    private RecordSieve(PromptSelection selection)
    {
        _selection = selection;
        _missing = [.. selection.Where.Select(static x => x.Field)];
        if (selection.Alternate is { } field)
        {
            _missing.Add(field);
        }
    }

    /// <summary>The sieve of a selection; null if it takes all items as they come.</summary>
    public static RecordSieve? Of(PromptSelection? selection) =>
        selection is { Where.Count: > 0 } or { Alternate: not null } ? new RecordSieve(selection) : null;

    /// <summary>Whether an item is taken.</summary>
    public bool Takes(DataRecord item)
    {
        _missing.RemoveWhere(field => item.Scalar(field) is not null);
        return _selection.Where.All(condition => item.Scalar(condition.Field) is { } value && condition.IsMetBy(value));
    }

    /// <summary>Notes an item that was taken.</summary>
    public void Took(DataRecord item) => _keys.Add(_selection.Alternate is { } field ? item.Scalar(field) ?? "" : "");

    /// <summary>The prompts taken, in the selection's order.</summary>
    /// <exception cref="PromptFileException">No item has a field that was named.</exception>
    public List<Prompt> Order(string path, List<Prompt> prompts)
    {
        if (_missing.Count > 0)
        {
            throw new PromptFileException(
                path, 0, $"no item has the column or field '{_missing.Order(StringComparer.Ordinal).First()}', which PromptSelection.Where or "
                + "PromptSelection.Alternate names.");
        }

        if (_selection.Alternate is null || prompts.Count == 0)
        {
            return prompts;
        }

        Prompt[][] groups = [.. prompts.Zip(_keys).GroupBy(static x => x.Second, static x => x.First, StringComparer.Ordinal)
            .Select(static group => group.ToArray())];
        int turns = groups.Min(static group => group.Length);
        return [.. Enumerable.Range(0, turns).SelectMany(i => groups.Select(group => group[i]))];
    }
}
