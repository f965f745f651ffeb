using System.Globalization;
using System.Security.Cryptography;
using Tiller.Checkpoint;

namespace Tiller.Evaluation.Onnx;

/// <summary>A classifier cannot be loaded or run, or is none of texts.</summary>
public sealed class OnnxScorerException : TillerException
{
    internal OnnxScorerException(string path, string message, Exception? cause = null)
        : base($"{path}: {message}", cause)
    {
        Path = path;
    }

    /// <summary>The classifier's file.</summary>
    public string Path { get; }
}

/// <summary>What a classifier's logits z become.</summary>
public enum LogitFunction
{
    /// <summary>exp zᵢ / Σ exp zⱼ: each text has one of the labels.</summary>
    Softmax,

    /// <summary>1/(1 + exp −zᵢ): a text may have any number of the labels.</summary>
    Sigmoid,

    /// <summary>zᵢ itself: the classifier gives a number.</summary>
    None,
}

/// <summary>What is scored of a classifier's label.</summary>
public enum LabelScore
{
    /// <summary>The mean over the texts of the label's probability, or of its number.</summary>
    Mean,

    /// <summary>
    /// The share of texts that have the label: it is the likeliest one, or, with <see cref="LogitFunction.Sigmoid"/>, likelier than not.
    /// </summary>
    Share,
}

/// <summary>Which classifier scores texts, and how.</summary>
public sealed record OnnxScorerOptions
{
    /// <summary>
    /// The graph of a text classifier, an .onnx file. tokenizer.json is beside it, or, if the graph's folder is called onnx, in the folder above, and
    /// so are config.json and tokenizer_config.json, if there are any.
    /// </summary>
    public required string File { get; init; }

    /// <summary>The label that is scored: its name in id2label of config.json, or its number, counted from 0.</summary>
    public required string Label { get; init; }

    /// <summary>What is scored of it; default its mean.</summary>
    public LabelScore Score { get; init; } = LabelScore.Mean;

    /// <summary>
    /// What the logits become; null (default) for what the published pipeline does: <see cref="LogitFunction.None"/> if problem_type of config.json
    /// is regression, <see cref="LogitFunction.Sigmoid"/> if it is multi_label_classification or there is a single label, else
    /// <see cref="LogitFunction.Softmax"/>.
    /// </summary>
    public LogitFunction? Function { get; init; }

    /// <summary>
    /// Most tokens of a text, including the special ones; what is beyond is cut off. Null (default) for model_max_length of tokenizer_config.json, or
    /// 512.
    /// </summary>
    public int? MaxTokens { get; init; }

    /// <summary>Texts that are classified at once; default 16.</summary>
    public int Batch { get; init; } = 16;
}

/// <summary>
/// An ONNX text classifier as a scorer, such as the paper's RoBERTa for toxicity. Texts are encoded as the published pipeline does, and the
/// continuation is classified without its prompt. Hashes of graph, external data and tokenizer are part of <see cref="Identity"/>.
/// </summary>
public sealed class OnnxScorer : Scorer, IDisposable
{
    private const double Likelier = 0.5;

    private readonly string _name;
    private readonly OnnxScorerOptions _options;
    private readonly OnnxClassifier _classifier;
    private readonly LogitFunction _function;
    private readonly int _label;

    /// <summary>Loads the classifier.</summary>
    /// <param name="name">The scorer's name in results.</param>
    /// <param name="options">Which classifier, and how.</param>
    /// <exception cref="OnnxScorerException">It cannot be loaded, is none of texts, or does not have the label.</exception>
    /// <exception cref="TillerException">tokenizer.json or a configuration cannot be read.</exception>
    /// <exception cref="ArgumentOutOfRangeException">A number is below 1.</exception>
    /// <exception cref="IOException">A file cannot be read.</exception>
    public OnnxScorer(string name, OnnxScorerOptions options)
    {
        ArgumentNullException.ThrowIfNull(name);
        ArgumentNullException.ThrowIfNull(options);
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(options.Batch);
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(options.MaxTokens ?? 1);
        var files = ClassifierFiles.Read(options.File);
        int maxTokens = options.MaxTokens ?? files.MaxTokens;
        _classifier = new OnnxClassifier(options.File, files, maxTokens);
        try
        {
            (_name, _options, _label) = (name, options, LabelOf(options, files, _classifier.Count));
            _function = options.Function ?? files.Function ?? (_classifier.Count == 1 ? LogitFunction.Sigmoid : LogitFunction.Softmax);
            if (options.Score == LabelScore.Share && _function == LogitFunction.None)
            {
                throw new OnnxScorerException(
                    options.File, "the classifier gives a number, not probabilities, so no text has or lacks a label: score its mean.");
            }

            string graph = string.Join('+', ExternalData.PathsOf(options.File).Prepend(options.File).Select(HashOf));
            Identity = string.Create(
                CultureInfo.InvariantCulture,
                $"{name} onnx {graph} {HashOf(files.TokenizerPath)} {_label} {options.Score} {_function} {maxTokens} {files.PadId}");
        }
        catch
        {
            _classifier.Dispose();
            throw;
        }
    }

    /// <summary>The kind of these scorers, "onnx" in task files, for <see cref="TaskOptions.Kinds"/>.</summary>
    public static ScorerKind Kind { get; } = new("onnx", static (name, node, of, files) => Read(name, ScorerKind.Needed(node, of), files));

    /// <inheritdoc/>
    public override string Name => _name;

    /// <inheritdoc/>
    public override string Identity { get; }

    /// <inheritdoc/>
    public override Score Measure(EvaluatedTexts texts, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(texts);
        return Score.OfQuotient(Name, [.. Of([.. texts.Texts.Select(static x => x.Text)], cancellationToken).Select(static x => (x, 1.0))]);
    }

    /// <summary>Scores texts one by one: the label's probability or number, or whether a text has the label, 1 or 0.</summary>
    /// <param name="texts">The texts.</param>
    /// <param name="cancellationToken">Checked between batches.</param>
    /// <returns>One score for each text.</returns>
    /// <exception cref="OnnxScorerException">The classifier fails.</exception>
    public IReadOnlyList<double> Of(IReadOnlyList<string> texts, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(texts);
        return [.. _classifier.Classify(texts, _options.Batch, cancellationToken).Select(Of)];
    }

    /// <summary>Frees the classifier.</summary>
    public void Dispose() => _classifier.Dispose();

    private double Of(float[] logits)
    {
        double[] values = _function switch
        {
            LogitFunction.Softmax => Softmax(logits),
            LogitFunction.Sigmoid => Array.ConvertAll(logits, static z => 1 / (1 + Math.Exp(-z))),
            _ => Array.ConvertAll(logits, static z => (double)z),
        };
        double value = values[_label];
        return _options.Score == LabelScore.Mean ? value
            : (_function == LogitFunction.Sigmoid ? value > Likelier : value >= values.Max()) ? 1 : 0;
    }

    private static double[] Softmax(float[] logits)
    {
        double most = logits.Max();
        double[] powers = Array.ConvertAll(logits, z => Math.Exp(z - most));
        double sum = powers.Sum();
        return Array.ConvertAll(powers, x => x / sum);
    }

    private static int LabelOf(OnnxScorerOptions options, ClassifierFiles files, int count)
    {
        int named = files.Labels.TakeWhile(label => label != options.Label).Count();
        if (named < files.Labels.Count)
        {
            return named;
        }

        return int.TryParse(options.Label, NumberStyles.None, CultureInfo.InvariantCulture, out int number) && number < count
            ? number
            : throw new OnnxScorerException(
                options.File,
                $"the classifier has no label {Quoted.Text(options.Label)}; expected "
                + (files.Labels.Count > 0 ? $"one of {Quoted.Some([.. files.Labels])}" : "a number, because there is no config.json with id2label")
                + (count > 0 ? $", or 0 to {count - 1}." : ". Its graph does not say how many labels there are."));
    }

    private static string HashOf(string path)
    {
        using var stream = File.OpenRead(path);
        return Convert.ToHexStringLower(SHA256.HashData(stream));
    }

    private static OnnxScorer Read(string name, TaskNode node, TaskFiles files)
    {
        node.CheckKeys("file", "label", "score", "function", "max_tokens", "batch");
        var options = new OnnxScorerOptions
        {
            File = files.PathOf(node["file"]),
            Label = node["label"].Text(),
            Score = node.Find("score")?.Text() switch
            {
                null or "mean" => LabelScore.Mean,
                "share" => LabelScore.Share,
                _ => throw node["score"].Fail("must be mean or share."),
            },
            Function = node.Find("function")?.Text() switch
            {
                null => null,
                "softmax" => LogitFunction.Softmax,
                "sigmoid" => LogitFunction.Sigmoid,
                "none" => LogitFunction.None,
                _ => throw node["function"].Fail("must be softmax, sigmoid or none."),
            },
            MaxTokens = node.Find("max_tokens")?.Number(1, int.MaxValue),
            Batch = node.Find("batch")?.Number(1, 4096) ?? 16,
        };
        try
        {
            return new OnnxScorer(name, options);
        }
        catch (OnnxScorerException e)
        {
            throw node.Fail($"names a classifier that cannot be used: {e.Message}", e);
        }
    }
}
