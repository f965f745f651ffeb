using Microsoft.ML.OnnxRuntime;
using Microsoft.ML.OnnxRuntime.Tensors;
using Tiller.Checkpoint;
using Tiller.Tokens;

namespace Tiller.Evaluation.Onnx;

/// <summary>A text classifier as it is published: a graph from input_ids (B, T) to logits (B, labels), with its tokenizer.</summary>
internal sealed class OnnxClassifier : IDisposable
{
    private const string Ids = "input_ids";
    private const string Mask = "attention_mask";
    private const string Types = "token_type_ids";
    private const string Logits = "logits";

    private readonly string _path;
    private readonly ClassifierFiles _files;
    private readonly int _maxTokens;
    private readonly InferenceSession _session;
    private readonly string[] _inputs;
    private readonly string _output;

    /// <summary>Loads a graph and checks that it is a text classifier's.</summary>
    /// <param name="path">The graph.</param>
    /// <param name="files">The files beside it.</param>
    /// <param name="maxTokens">Most tokens of a text, including the special ones.</param>
    /// <exception cref="OnnxScorerException">It cannot be loaded, or is of something else.</exception>
    public OnnxClassifier(string path, ClassifierFiles files, int maxTokens)
    {
        (_path, _files, _maxTokens) = (path, files, maxTokens);
        int special = files.Tokenizer.Affixes.Before.Length + files.Tokenizer.Affixes.After.Length;
        if (maxTokens <= special)
        {
            throw Fail($"a text may have {maxTokens} tokens, of which {special} are special: allow more than that.");
        }

        _session = Load(path);
        try
        {
            _inputs = Inputs();
            _output = Output();
            Count = _session.OutputMetadata[_output].Dimensions[1] is > 0 and var count ? count : files.Labels.Count;
            if (files.Labels.Count > 0 && files.Labels.Count != Count)
            {
                throw Fail($"the graph has {Count} labels, and config.json names {files.Labels.Count}: take both from one model.");
            }
        }
        catch
        {
            _session.Dispose();
            throw;
        }
    }

    /// <summary>Number of labels; 0 if neither the graph nor config.json says it.</summary>
    public int Count { get; }

    // Without a mask, or a token to fill up with, the texts of a batch must be of one length.
    private bool MayPad => _inputs.Contains(Mask) && _files.PadId is not null;

    /// <summary>The logits of texts // (texts, labels).</summary>
    /// <param name="texts">The texts; each is cut after the most tokens that the classifier reads.</param>
    /// <param name="batch">Most texts in a run of the graph.</param>
    /// <param name="cancellationToken">Checked between runs.</param>
    /// <exception cref="OnnxScorerException">The graph fails, or its logits are not finite or of another shape.</exception>
    /// <exception cref="TokenizerException">A text cannot be encoded.</exception>
    public float[][] Classify(IReadOnlyList<string> texts, int batch, CancellationToken cancellationToken)
    {
        int[][] ids = [.. texts.Select(text => Encode(text, cancellationToken))];
        var logits = new float[texts.Count][];
        int[] order = [.. Enumerable.Range(0, ids.Length).OrderBy(i => ids[i].Length)]; // neighbours need little padding
        for (int begin = 0; begin < order.Length;)
        {
            cancellationToken.ThrowIfCancellationRequested();
            int most = Math.Min(order.Length, begin + batch), end = begin + 1;
            while (end < most && (MayPad || ids[order[end]].Length == ids[order[begin]].Length))
            {
                end++;
            }

            int[] rows = order[begin..end];
            float[][] run = Run([.. rows.Select(i => ids[i])]);
            for (int i = 0; i < rows.Length; i++)
            {
                logits[rows[i]] = run[i];
            }

            begin = end;
        }

        return logits;
    }

    /// <inheritdoc/>
    public void Dispose() => _session.Dispose();

    // As the published pipeline: special tokens that are written in a text count as such, and a long text loses its end.
    private int[] Encode(string text, CancellationToken cancellationToken)
    {
        var (before, after) = _files.Tokenizer.Affixes;
        int[] ids = _files.Tokenizer.Encode(text, addSpecial: false, parseSpecial: true, cancellationToken);
        return [.. before, .. ids.Take(_maxTokens - before.Length - after.Length), .. after];
    }

    private float[][] Run(int[][] rows)
    {
        int length = rows.Max(static x => x.Length);
        if (length == 0)
        {
            throw Fail("an empty text has no tokens, because tokenizer.json adds no special ones: leave out prompts that are answered by nothing.");
        }

        long[] shape = [rows.Length, length];
        long[] ids = new long[rows.Length * length], mask = new long[ids.Length];
        Array.Fill(ids, _files.PadId ?? 0);
        for (int i = 0; i < rows.Length; i++)
        {
            Array.ConvertAll(rows[i], static id => (long)id).CopyTo(ids, i * length);
            Array.Fill(mask, 1, i * length, rows[i].Length);
        }

        OrtValue[] values = [.. _inputs.Select(name => OrtValue.CreateTensorValueFromMemory(
            name switch { Ids => ids, Mask => mask, _ => new long[ids.Length] }, shape))];
        try
        {
            using var options = new RunOptions();
            using var outputs = _session.Run(options, _inputs, values, [_output]);
            long[] shaped = outputs[0].GetTensorTypeAndShape().Shape;
            float[] numbers = outputs[0].GetTensorDataAsSpan<float>().ToArray();
            if (shaped is not [var count, var labels] || count != rows.Length || labels != Count)
            {
                throw Fail($"the graph gave logits of the shape ({string.Join(", ", shaped)}) for {rows.Length} texts: it is no text classifier's.");
            }

            return Array.Exists(numbers, static x => !float.IsFinite(x))
                ? throw Fail("a logit is not finite: take an export of the model that does not overflow, such as the one in float32.")
                : [.. numbers.Chunk((int)labels)];
        }
        catch (OnnxRuntimeException e)
        {
            throw Fail($"ONNX Runtime cannot run the graph on {rows.Length} texts of at most {length} tokens: {Quoted.Bare(e.Message)} "
                + "If the model reads fewer tokens, set OnnxScorerOptions.MaxTokens.", e);
        }
        finally
        {
            Array.ForEach(values, static value => value.Dispose());
        }
    }

    private static InferenceSession Load(string path)
    {
        try
        {
            using var options = new SessionOptions { LogSeverityLevel = OrtLoggingLevel.ORT_LOGGING_LEVEL_ERROR };
            return new InferenceSession(path, options);
        }
        catch (OnnxRuntimeException e)
        {
            throw new OnnxScorerException(
                path,
                $"ONNX Runtime cannot load it: {Quoted.Bare(e.Message)} Name the .onnx file of a text classifier, with its external data beside it.",
                e);
        }
    }

    private string[] Inputs()
    {
        var metadata = _session.InputMetadata;
        foreach (var (name, input) in metadata)
        {
            if (name is not (Ids or Mask or Types) || !IsTensor(input) || input.ElementDataType != TensorElementType.Int64
                || input.Dimensions is not [<= 0, <= 0])
            {
                throw Fail(
                    $"the graph takes {Quoted.Text(name)}, {Described(input)}; expected {Ids}, and {Mask} and {Types} if it has them, as Int64 of "
                    + "any number of texts and tokens: export it as a text classifier, with dynamic axes.");
            }
        }

        return metadata.ContainsKey(Ids) ? [.. metadata.Keys] : throw Fail($"the graph takes no {Ids}: export it as a text classifier.");
    }

    private string Output()
    {
        var metadata = _session.OutputMetadata;
        string name = metadata.ContainsKey(Logits) ? Logits : metadata.Count == 1 ? metadata.Keys.First()
            : throw Fail($"the graph gives {Quoted.Some([.. metadata.Keys])}, and none of them is called {Logits}: export it as a text classifier.");
        var output = metadata[name];
        return IsTensor(output) && output.ElementDataType == TensorElementType.Float && output.Dimensions.Length == 2 ? name
            : throw Fail(
                $"the graph gives {Quoted.Text(name)}, {Described(output)}; expected logits in Float, of texts and labels: export it as a text "
                + "classifier.");
    }

    // Only a tensor has a type of elements and dimensions: those of a sequence or a map throw.
    private static bool IsTensor(NodeMetadata value) => value.OnnxValueType == OnnxValueType.ONNX_TYPE_TENSOR;

    private static string Described(NodeMetadata value) =>
        IsTensor(value) ? $"{value.ElementDataType} ({string.Join(", ", value.Dimensions)})" : $"{value.OnnxValueType}";

    private OnnxScorerException Fail(string message, Exception? cause = null) => new(_path, message, cause);
}
