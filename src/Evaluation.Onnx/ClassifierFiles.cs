using System.Globalization;
using Tiller.Checkpoint;
using Tiller.Tokens;

namespace Tiller.Evaluation.Onnx;

/// <summary>
/// The files that are published with a classifier's graph: tokenizer.json, and, if they are there, config.json and tokenizer_config.json. They are in
/// the graph's folder; those of a graph in a folder called onnx may be in the folder above it.
/// </summary>
internal sealed record ClassifierFiles
{
    // What BERT and RoBERTa read, including the special tokens.
    private const int UsualMaxTokens = 512;

    // transformers writes 10³⁰ for "no limit".
    private const double NoLimit = 1e9;

    private const string TokenizerName = "tokenizer.json";

    private const string GraphsFolder = "onnx";

    /// <summary>The tokenizer.</summary>
    public required Tokenizer Tokenizer { get; init; }

    /// <summary>The path of tokenizer.json.</summary>
    public required string TokenizerPath { get; init; }

    /// <summary>Names of the labels, in the order of the logits; empty if they have none.</summary>
    public required IReadOnlyList<string> Labels { get; init; }

    /// <summary>What problem_type of config.json makes of any number of logits; null if their number decides.</summary>
    public required LogitFunction? Function { get; init; }

    /// <summary>Most tokens of a text, including the special ones.</summary>
    public required int MaxTokens { get; init; }

    /// <summary>The token that fills up the shorter texts of a batch; null if there is none.</summary>
    public required int? PadId { get; init; }

    /// <summary>Reads the files beside a graph.</summary>
    /// <param name="graph">Path of the graph.</param>
    /// <exception cref="OnnxScorerException">The path is that of no file.</exception>
    /// <exception cref="TokenizerException">There is no tokenizer.json, or it cannot be read.</exception>
    /// <exception cref="ConfigException">A configuration cannot be read.</exception>
    public static ClassifierFiles Read(string graph)
    {
        string beside = Path.GetDirectoryName(Path.GetFullPath(graph))
            ?? throw new OnnxScorerException(graph, "this is a folder: name the .onnx file of a text classifier.");
        string folder = !File.Exists(Path.Combine(beside, TokenizerName)) && Path.GetFileName(beside) == GraphsFolder
            && Path.GetDirectoryName(beside) is { } above && File.Exists(Path.Combine(above, TokenizerName)) ? above : beside;
        var tokenizer = Tokenizer.Load(folder);
        var config = ConfigJson.Read(Path.Combine(folder, "config.json"));
        var tokens = ConfigJson.Read(Path.Combine(folder, "tokenizer_config.json"));
        double most = tokens?.HasValue("model_max_length") == true ? tokens.Positive("model_max_length", NoLimit) : NoLimit;
        int[] pad = config?.Ids("pad_token_id", tokenizer.VocabularySize) ?? [];
        return new ClassifierFiles
        {
            Tokenizer = tokenizer,
            TokenizerPath = Path.Combine(folder, TokenizerName),
            Labels = Labelled(config?.Section("id2label")),
            Function = config?.Text("problem_type") switch
            {
                null or "single_label_classification" => null,
                "multi_label_classification" => LogitFunction.Sigmoid,
                "regression" => LogitFunction.None,
                _ => throw config.Fail(
                    ConfigError.Schema, "problem_type", "single_label_classification, multi_label_classification, regression or null"),
            },
            MaxTokens = most < NoLimit ? (int)most : UsualMaxTokens,
            PadId = pad.Length > 0 ? pad[0] : tokenizer.IdOf("<pad>") ?? tokenizer.IdOf("[PAD]"),
        };
    }

    private static List<string> Labelled(ConfigJson? names)
    {
        var labels = new List<string>();
        while (names?.Text(labels.Count.ToString(CultureInfo.InvariantCulture)) is { } label)
        {
            labels.Add(label);
        }

        return labels;
    }
}
