using Tiller.Decode;
using Tiller.Features;
using Tiller.Model;

namespace Tiller.Evaluation;

/// <summary>
/// A task for a model and its scoring: prompts in splits, the contrast that a controller is fitted on, settings of generation, and scorers. On disk
/// it is a folder with task.yaml and its data (docs/evaluation.md).
/// </summary>
public sealed record EvaluationTask
{
    /// <summary>The name of the split that is used if none is named.</summary>
    public const string DefaultSplit = "test";

    private const string FileName = "task.yaml";

    /// <summary>The task's name in results.</summary>
    public required string Name { get; init; }

    /// <summary>A description for people; may be empty.</summary>
    public string About { get; init; } = "";

    /// <summary>The prompts of each split, by its name.</summary>
    public required IReadOnlyDictionary<string, IReadOnlyList<Prompt>> Splits { get; init; }

    /// <summary>The prompts that a controller is fitted on; null if the task has none.</summary>
    public ContrastSet? Contrast { get; init; }

    /// <summary>
    /// A text that asks for the behaviour in words, as an alternative to steering. It is put before the prompt, or into a chat's system message. Null
    /// if the task has none.
    /// </summary>
    public string? Prompting { get; init; }

    /// <summary>How prompts are continued; <see cref="GenerationOptions.Law"/> is not set. Prompt i is drawn with the seed plus i.</summary>
    public GenerationOptions Generation { get; init; } = new();

    /// <summary>The scorers, at least one.</summary>
    public required IReadOnlyList<Scorer> Scorers { get; init; }

    /// <summary>Reads a task from a folder.</summary>
    /// <param name="folder">The folder that contains task.yaml. Paths in task.yaml are relative to it.</param>
    /// <param name="cancellationToken">Checked while files are read.</param>
    /// <exception cref="TaskFileException">task.yaml is missing, malformed, or contradicts itself.</exception>
    /// <exception cref="PromptFileException">A file of prompts cannot be read.</exception>
    /// <exception cref="ContrastSetException">A side of the contrast is empty.</exception>
    public static EvaluationTask Read(string folder, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(folder);
        string file = Path.Combine(folder, FileName);
        string text;
        try
        {
            text = File.ReadAllText(file);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new TaskFileException(file, 0, $"the task cannot be read: {e.Message} Name a folder that contains {FileName}.", e);
        }

        return new Reader(folder, cancellationToken).Read(TaskNode.Parse(file, text));
    }

    /// <summary>The prompts of a split.</summary>
    /// <exception cref="ArgumentException">There is no such split.</exception>
    public IReadOnlyList<Prompt> PromptsOf(string split) => Splits.TryGetValue(split, out var prompts)
        ? prompts
        : throw new ArgumentException($"The task {Name} has no split '{split}'; it has {string.Join(", ", Splits.Keys)}.", nameof(split));

    private sealed class Reader(string folder, CancellationToken cancellationToken)
    {
        public EvaluationTask Read(TaskNode root)
        {
            root.CheckKeys("name", "about", "chat", "system", "contrast", "prompts", "prompting", "generation", "scorers");
            bool chat = root.Find("chat")?.Truth() ?? false;
            string? system = root.Find("system")?.Text();
            if (system is not null && !chat)
            {
                throw root["system"].Fail("needs \"chat: true\": only chats have a system message.");
            }

            Scorer[] scorers = [.. root["scorers"].List().Select(ScorerRegistry.Read)];
            return new EvaluationTask
            {
                Name = root["name"].Text(),
                About = root.Find("about")?.Text() ?? "",
                Splits = Splits(root["prompts"], chat, system),
                Prompting = root.Find("prompting")?.Text(),
                Contrast = root.Find("contrast") is { } contrast ? Contrast(contrast, chat, system) : null,
                Generation = root.Find("generation") is { } generation ? Generation(generation) : new GenerationOptions(),
                Scorers = scorers.Length == 0 ? throw root["scorers"].Fail("must have at least one entry.")
                    : scorers.GroupBy(static x => x.Name, StringComparer.Ordinal).FirstOrDefault(static x => x.Count() > 1) is { } twice
                        ? throw root["scorers"].Fail($"has two called '{twice.Key}': give one of them another name with \"as\".")
                        : scorers,
            };
        }

        private static GenerationOptions Generation(TaskNode node)
        {
            node.CheckKeys("max_tokens", "temperature", "top_k", "top_p", "min_p", "seed", "stop");
            var sampling = new SamplingOptions
            {
                Temperature = node.Find("temperature")?.Number(0f, 100f) ?? 0,
                TopK = node.Find("top_k")?.Number(0, int.MaxValue) ?? 0,
                TopP = node.Find("top_p")?.Number(0f, 1f) ?? 1,
                MinP = node.Find("min_p")?.Number(0f, 1f) ?? 0,
                Seed = node.Find("seed")?.Number(0UL, ulong.MaxValue) ?? 0,
            };
            return new GenerationOptions
            {
                MaxNewTokens = node.Find("max_tokens")?.Number(1, int.MaxValue) ?? 128,
                Sampling = sampling,
                StopStrings = node.Find("stop") is { } stop ? new StopStrings(stop.Texts()) : StopStrings.None,
            };
        }

        private Dictionary<string, IReadOnlyList<Prompt>> Splits(TaskNode node, bool chat, string? system)
        {
            var splits = new Dictionary<string, IReadOnlyList<Prompt>>(StringComparer.Ordinal);
            if (!node.IsMapping || node.Find("file") is not null)
            {
                splits.Add(DefaultSplit, Prompts(node, chat, system));
                return splits;
            }

            foreach (var (name, value) in node.Pairs())
            {
                splits.Add(name, Prompts(value, chat, system));
            }

            return splits.Count > 0 ? splits : throw node.Fail("must have at least one split.");
        }

        private ContrastSet Contrast(TaskNode node, bool chat, string? system)
        {
            node.CheckKeys("positive", "negative", "pairs");
            ContrastSet set;
            if (node.Find("pairs") is { } pairs)
            {
                set = node.Find("positive") is null && node.Find("negative") is null
                    ? ContrastSet.ReadPairs(PathOf(pairs.Text()), cancellationToken)
                    : throw node.Fail("has \"pairs\" and also \"positive\" or \"negative\": give either pairs or the two sides.");
            }
            else
            {
                set = new ContrastSet(Prompts(node["positive"], chat: false, null), Prompts(node["negative"], chat: false, null));
            }

            return chat ? set.AsChat(system) : set;
        }

        // Reads the prompts of a node: a path, or a mapping with the path and the selection of prompts in the file.
        private Prompt[] Prompts(TaskNode node, bool chat, string? system)
        {
            var selection = new PromptSelection();
            var (skip, take, path) = (0, int.MaxValue, node);
            if (node.IsMapping)
            {
                node.CheckKeys("file", "column", "field", "skip", "take");
                selection = new PromptSelection { Column = node.Find("column")?.Text(), Field = node.Find("field")?.Text() };
                path = node["file"];
                (skip, take) = (node.Find("skip")?.Number(0, int.MaxValue) ?? 0, node.Find("take")?.Number(1, int.MaxValue) ?? int.MaxValue);
            }

            Prompt[] prompts = [.. PromptFile.Read(PathOf(path.Text()), selection, cancellationToken).Skip(skip).Take(take)
                .Select(prompt => chat ? prompt.AsChat(system) : prompt)];
            return prompts.Length > 0 ? prompts : throw node.Fail("has no prompt left: skip fewer, or name a file with more prompts.");
        }

        private string PathOf(string path) => Path.Combine(folder, path);
    }
}
