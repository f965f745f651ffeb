namespace Tiller.Evaluation;

/// <summary>A kind of scorer that a task file may name. Other packages have further kinds, for <see cref="TaskOptions.Kinds"/>.</summary>
public sealed class ScorerKind
{
    /// <summary>Creates a kind.</summary>
    /// <param name="name">The name in task files.</param>
    /// <param name="read">Makes a scorer of its name in results, its settings (null if there are none), the scorer's entry, and the files.</param>
    internal ScorerKind(string name, Func<string, TaskNode?, TaskNode, TaskFiles, Scorer> read) => (Name, Read) = (name, read);

    /// <summary>The name in task files.</summary>
    public string Name { get; }

    internal Func<string, TaskNode?, TaskNode, TaskFiles, Scorer> Read { get; }

    /// <summary>The settings of a kind that needs some.</summary>
    /// <exception cref="TaskFileException">There are none.</exception>
    internal static TaskNode Needed(TaskNode? settings, TaskNode of) => settings ?? throw of.Fail("needs settings: write them after a colon.");
}
