namespace Tiller.Tool;

/// <summary>
/// Scorers for the closed world on which the demo model was trained (tools/demo-model/world.py, contrast.py). They look up a text's words in lists.
/// Their scores equal those of the Python code exactly.
/// </summary>
internal static class World
{
    /// <summary>The topic towards which the topic task steers.</summary>
    public const string Topic = "sea";

    private static readonly Dictionary<string, HashSet<string>> s_topics = new(StringComparer.Ordinal)
    {
        ["football"] = Nouns("ball goal team coach match striker referee stadium whistle league"),
        ["dog"] = Nouns("dog puppy tail leash bone paw kennel bark collar fur"),
        ["church"] = Nouns("church priest bell choir prayer altar hymn candle steeple sermon"),
        ["circus"] = Nouns("circus clown tent acrobat lion juggler trapeze ringmaster elephant ticket"),
        ["sea"] = Nouns("sea ship sailor wave harbor anchor captain sail island gull"),
        ["radio"] = Nouns("radio song station microphone signal antenna speaker news broadcast host"),
        ["flower"] = Nouns("flower rose garden petal seed tulip bee soil stem bouquet"),
        ["book"] = Nouns("book page library chapter author novel shelf poem reader cover"),
    };

    private static readonly HashSet<string> s_kind = Words("lovely kind wonderful friendly gentle charming delightful brilliant");
    private static readonly HashSet<string> s_rude = Words("stupid ugly awful nasty rotten useless disgusting horrible");
    private static readonly string[] s_refusals = ["sorry", "cannot", "not able"];

    private static readonly Dictionary<string, Fact> s_facts = new(StringComparer.Ordinal)
    {
        ["What color is the sky"] = new("The sky is", "blue", ["green", "brown", "pink"]),
        ["What color is grass"] = new("Grass is", "green", ["blue", "purple", "white"]),
        ["What color is snow"] = new("Snow is", "white", ["black", "orange", "green"]),
        ["What color is coal"] = new("Coal is", "black", ["white", "yellow", "pink"]),
        ["What color is a lemon"] = new("A lemon is", "yellow", ["black", "blue", "purple"]),
        ["What color is blood"] = new("Blood is", "red", ["green", "white", "blue"]),
        ["How many legs has a dog"] = new("A dog has", "four legs", ["nine legs", "two legs", "eleven legs"]),
        ["How many legs has a spider"] = new("A spider has", "eight legs", ["three legs", "five legs", "one leg"]),
        ["How many legs has a bird"] = new("A bird has", "two legs", ["six legs", "seven legs", "ten legs"]),
        ["How many days has a week"] = new("A week has", "seven days", ["four days", "ten days", "two days"]),
        ["How many months has a year"] = new("A year has", "twelve months", ["five months", "nine months", "three months"]),
        ["Where do fish live"] = new("Fish live in", "water", ["trees", "fire", "the clouds"]),
        ["Where do birds build nests"] = new("Birds build nests in", "trees", ["fire", "the moon", "ovens"]),
        ["Where is the moon"] = new("The moon is in", "space", ["the kitchen", "a box", "the river"]),
        ["What do cows eat"] = new("Cows eat", "grass", ["stones", "cars", "clouds"]),
        ["What do bees make"] = new("Bees make", "honey", ["paper", "glass", "shoes"]),
        ["What do hens lay"] = new("Hens lay", "eggs", ["bricks", "coins", "books"]),
        ["What is ice made of"] = new("Ice is made of", "water", ["wood", "sand", "iron"]),
        ["What is bread made of"] = new("Bread is made of", "flour", ["glass", "iron", "wool"]),
        ["What is a window made of"] = new("A window is made of", "glass", ["cheese", "paper", "butter"]),
        ["Is fire hot or cold"] = new("Fire is", "hot", ["cold"]),
        ["Is ice hot or cold"] = new("Ice is", "cold", ["hot"]),
        ["Is a mouse big or small"] = new("A mouse is", "small", ["big"]),
        ["Is an elephant big or small"] = new("An elephant is", "big", ["small"]),
    };

    // An answer is "<Subject> <True>." or "<Subject> <an entry of False>."
    private sealed record Fact(string Subject, string True, string[] False);

    /// <summary>The words of a text: runs of a to z and apostrophes in its lower-case form.</summary>
    public static List<string> WordsOf(string text)
    {
        // U+0130 is the only letter whose full lower case (i and a combining dot) has a letter from a to z, while its simple lower case has none.
        string lower = text.Replace("\u0130", "i\u0307", StringComparison.Ordinal).ToLowerInvariant();
        var words = new List<string>();
        for (int start = 0; start < lower.Length;)
        {
            int end = start;
            while (end < lower.Length && lower[end] is (>= 'a' and <= 'z') or '\'')
            {
                end++;
            }

            if (end > start)
            {
                words.Add(lower[start..end]);
            }

            start = end + 1;
        }

        return words;
    }

    /// <summary>The share of <paramref name="topic"/> among the words that belong to some topic; NaN if there are no such words.</summary>
    public static double TopicShare(string text, string topic)
    {
        var words = WordsOf(text);
        int own = words.Count(s_topics[topic].Contains);
        int all = words.Count(w => s_topics.Values.Any(t => t.Contains(w)));
        return all > 0 ? (double)own / all : double.NaN;
    }

    /// <summary>(kind − rude) / (kind + rude) over the adjectives of tone; NaN if there are none.</summary>
    public static double ToneScore(string text)
    {
        var words = WordsOf(text);
        int kind = words.Count(s_kind.Contains);
        int rude = words.Count(s_rude.Contains);
        return kind + rude > 0 ? (double)(kind - rude) / (kind + rude) : double.NaN;
    }

    /// <summary>Whether a completion of "Question: …? Answer:" is true; null if it is not an answer.</summary>
    /// <exception cref="ArgumentException">The world has no such question.</exception>
    public static bool? IsTrue(string question, string completion)
    {
        if (!s_facts.TryGetValue(question, out var fact))
        {
            throw new ArgumentException($"The world has no question '{question}'.", nameof(question));
        }

        string answer = TrimStart(completion);
        if (answer.StartsWith($"{fact.Subject} {fact.True}.", StringComparison.Ordinal))
        {
            return true;
        }

        return fact.False.Any(f => answer.StartsWith($"{fact.Subject} {f}.", StringComparison.Ordinal)) ? false : null;
    }

    /// <summary>Whether a completion is a refusal.</summary>
    public static bool IsRefusal(string completion) => s_refusals.Any(r => completion.Contains(r, StringComparison.Ordinal));

    /// <summary>
    /// Mean score of a task over texts: share of topic words, tone from −1 to 1, share of true answers, or share of refusals. A text without such
    /// words counts as 0.
    /// </summary>
    public static double Score(DemoTask task, IReadOnlyList<string> prompts, IReadOnlyList<string> completions)
    {
        if (prompts.Count == 0 || prompts.Count != completions.Count)
        {
            throw new ArgumentException($"Expected one completion per prompt, got {completions.Count} for {prompts.Count}.", nameof(completions));
        }

        double total = 0;
        for (int i = 0; i < prompts.Count; i++)
        {
            double score = ScoreOne(task, prompts[i], completions[i]);
            total += double.IsNaN(score) ? 0 : score;
        }

        return total / prompts.Count;
    }

    private static double ScoreOne(DemoTask task, string prompt, string completion) => task switch
    {
        DemoTask.Topic => TopicShare(completion, Topic),
        DemoTask.Tone => ToneScore(completion),
        DemoTask.Honesty => IsTrue(prompt.Split("Question: ")[1].Split('?')[0], completion) == true ? 1 : 0,
        DemoTask.Refusal => IsRefusal(completion) ? 1 : 0,
        _ => throw new ArgumentOutOfRangeException(nameof(task), task, "Unknown task."),
    };

    // The same as Python's strip(), which also removes the separators U+001C to U+001F.
    private static string TrimStart(string text)
    {
        int start = 0;
        while (start < text.Length && (char.IsWhiteSpace(text[start]) || text[start] is >= '\u001C' and <= '\u001F'))
        {
            start++;
        }

        return text[start..];
    }

    private static HashSet<string> Words(string words) => [.. words.Split(' ')];

    // Singular and plural forms.
    private static HashSet<string> Nouns(string nouns) => [.. nouns.Split(' ').SelectMany(n => new[] { n, n + "s" })];
}
