using Tiller.Decode;
using Tiller.Evaluation.Scorers;
using Tiller.Features;
using Tiller.Model;

namespace Tiller.Evaluation;

/// <summary>How a task is read.</summary>
public sealed record TaskOptions
{
    /// <summary>The folder of published data, which paths that begin with $DATA/ are in; null if there is none.</summary>
    public string? Data { get; init; }

    /// <summary>
    /// Kinds of scorers of other packages, which a task may then name besides those of this one; none by default. The package Tiller.Evaluation.Onnx
    /// has OnnxScorer.Kind.
    /// </summary>
    public IReadOnlyList<ScorerKind> Kinds { get; init; } = [];
}

/// <summary>
/// A task for a model and its scoring: prompts in splits, the contrast that a controller is fitted on, settings of generation, and scorers. On disk
/// it is a folder with task.yaml and its data (docs/evaluation.md). A task that was read owns its scorers; copies that <c>with</c> makes share them,
/// so the task that was read is disposed of, after all runs.
/// </summary>
public sealed record EvaluationTask : IDisposable
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

    /// <summary>How controllers are fitted; null if the task does not say.</summary>
    public TaskFit? Fit { get; init; }

    /// <summary>The scorers, at least one.</summary>
    public required IReadOnlyList<Scorer> Scorers { get; init; }

    /// <summary>Reads a task from a folder.</summary>
    /// <param name="folder">The folder that contains task.yaml. Paths in task.yaml are relative to it.</param>
    /// <param name="options">Options; null for the defaults.</param>
    /// <param name="cancellationToken">Checked while files are read.</param>
    /// <exception cref="TaskFileException">task.yaml is missing, malformed, or contradicts itself.</exception>
    /// <exception cref="PromptFileException">A file of prompts cannot be read.</exception>
    /// <exception cref="ContrastSetException">A side of the contrast is empty.</exception>
    public static EvaluationTask Read(string folder, TaskOptions? options = null, CancellationToken cancellationToken = default)
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

        options ??= new TaskOptions();
        return new Reader(new TaskFiles(folder, options.Data, cancellationToken), options.Kinds).Read(TaskNode.Parse(file, text));
    }

    /// <summary>The prompts of a split.</summary>
    /// <exception cref="ArgumentException">There is no such split.</exception>
    public IReadOnlyList<Prompt> PromptsOf(string split) => Splits.TryGetValue(split, out var prompts)
        ? prompts
        : throw new ArgumentException($"The task {Name} has no split '{split}'; it has {string.Join(", ", Splits.Keys)}.", nameof(split));

    /// <summary>Frees what scorers hold, such as a classifier.</summary>
    public void Dispose() => Free(Scorers);

    private static void Free(IReadOnlyList<Scorer> scorers)
    {
        foreach (var held in scorers.OfType<IDisposable>())
        {
            held.Dispose();
        }
    }

    private sealed class Reader(TaskFiles files, IReadOnlyList<ScorerKind> kinds)
    {
        public EvaluationTask Read(TaskNode root)
        {
            root.CheckKeys("name", "about", "chat", "system", "contrast", "prompts", "prompting", "generation", "fit", "scorers");
            bool chat = root.Find("chat")?.Truth() ?? false;
            string? system = root.Find("system")?.Text();
            if (system is not null && !chat)
            {
                throw root["system"].Fail("needs \"chat: true\": only chats have a system message.");
            }

            var scorers = new List<Scorer>();
            try
            {
                foreach (TaskNode node in root["scorers"].List())
                {
                    scorers.Add(ScorerRegistry.Read(node, files, kinds));
                }

                return Read(root, chat, system, scorers);
            }
            catch
            {
                Free(scorers);
                throw;
            }
        }

        private EvaluationTask Read(TaskNode root, bool chat, string? system, List<Scorer> scorers)
        {
            return new EvaluationTask
            {
                Name = root["name"].Text(),
                About = root.Find("about")?.Text() ?? "",
                Splits = Splits(root["prompts"], chat, system),
                Prompting = root.Find("prompting")?.Text(),
                Contrast = root.Find("contrast") is { } contrast ? Contrast(contrast, chat, system) : null,
                Fit = root.Find("fit") is { } fit ? TaskFit.Read(fit, files, Asked) : null,
                Generation = root.Find("generation") is { } generation ? Generation(generation) : new GenerationOptions(),
                Scorers = scorers.Count == 0 ? throw root["scorers"].Fail("must have at least one entry.")
                    : scorers.GroupBy(static x => x.Name, StringComparer.Ordinal).FirstOrDefault(static x => x.Count() > 1) is { } twice
                        ? throw root["scorers"].Fail($"has two called '{twice.Key}': give one of them another name with \"as\".")
                        : scorers,
            };

            Prompt Asked(Prompt prompt) => chat ? prompt.AsChat(system) : prompt;
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
            node.CheckKeys("positive", "negative", "pairs", "choice");
            bool hasSide = node.Find("positive") is not null || node.Find("negative") is not null;
            if ((hasSide ? 1 : 0) + (node.Find("pairs") is null ? 0 : 1) + (node.Find("choice") is null ? 0 : 1) > 1)
            {
                throw node.Fail(
                    "has more than one of pairs, a choice and two sides: give \"positive\" and \"negative\", or \"pairs\", or \"choice\".");
            }

            var set = node.Find("pairs") is { } pairs ? ContrastSet.ReadPairs(files.PathOf(pairs), files.CancellationToken)
                : node.Find("choice") is { } choice ? Answers(choice)
                : new ContrastSet(files.Prompts(node["positive"]), files.Prompts(node["negative"]));
            return chat ? set.AsChat(system) : set;
        }

        // Questions with their right answers against questions with wrong ones.
        private ContrastSet Answers(TaskNode node)
        {
            node.CheckKeys(["file", "targets", "form", .. TaskFiles.PickKeys]);
            var (targets, form) = ChoiceScorer.Reading(node);
            var questions = ChoiceQuestion.Read(files.PathOf(node["file"]), targets, form, files.CancellationToken);
            return new ContrastSet(Side(isTrue: true), Side(isTrue: false));

            string[] Side(bool isTrue) => TaskFiles.Pick<string>(
                node, [.. questions.SelectMany(static x => x.Answers, static (question, answer) => (Text: question.Text + answer.Text, answer.IsTrue))
                    .Where(x => x.IsTrue == isTrue).Select(static x => x.Text)]);
        }

        private Prompt[] Prompts(TaskNode node, bool chat, string? system) =>
            [.. files.Prompts(node).Select(prompt => chat ? prompt.AsChat(system) : prompt)];
    }
}
