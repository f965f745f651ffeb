using System.Text.Json;
using Tiller.Checkpoint;
using Tiller.Model;
using Tiller.Tokens;

namespace Tiller.Tool;

/// <summary>The result of checking one kind of golden value in one folder.</summary>
/// <param name="Folder">The folder.</param>
/// <param name="Kind">The kind of values.</param>
/// <param name="Count">Number of values or cases.</param>
/// <param name="Worst">Largest error; for kinds that must be exact, the number of cases that differ.</param>
/// <param name="Bound">Largest allowed error.</param>
/// <param name="Note">Further information, such as near ties; empty for none.</param>
internal sealed record VerificationRow(string Folder, string Kind, int Count, double Worst, double Bound, string Note = "")
{
    /// <summary>Whether the error is a number within the bound.</summary>
    public bool Passed => Worst <= Bound;
}

/// <summary>Compares the engine with golden values from the reference implementations.</summary>
internal static class Verification
{
    /// <summary>Checks all kinds of values in a folder.</summary>
    /// <param name="path">The folder.</param>
    /// <param name="options">How the checkpoint is loaded.</param>
    /// <param name="values">Receives the engine's hidden states, logits and Jacobians, with the names of the golden ones; may be null.</param>
    /// <param name="cancellationToken">Checked between blocks.</param>
    /// <param name="oneIn">If n, checks only every n-th steered continuation of each kind.</param>
    /// <param name="templates">The folder of the .jinja files that renderings.json names; null for the folder itself.</param>
    /// <exception cref="TillerException">The folder or its checkpoint cannot be read.</exception>
    public static IEnumerable<VerificationRow> Run(
        string path, LoadOptions options, List<TensorData>? values, CancellationToken cancellationToken, int oneIn = 1, string? templates = null)
    {
        if (TemplateChecks.Has(path))
        {
            foreach (var row in Guard(path, "cases of templates", TemplateChecks.Run(path, templates ?? path, cancellationToken)))
            {
                yield return row;
            }

            if (!Directory.Exists(Path.Combine(path, "checkpoint")))
            {
                yield break;
            }
        }

        if (MethodChecks.Has(path))
        {
            using var methods = new MethodChecks(path);
            foreach (var row in Guard(path, "methods.json", methods.Run(options, oneIn, cancellationToken)))
            {
                yield return row;
            }

            yield break;
        }

        using var folder = new GoldenFolder(path);
        if (folder.Tokens is { } tokens)
        {
            var tokenizer = Tokenizer.Load(folder.Checkpoint, cancellationToken);
            foreach (var row in Guard(folder.Path, "tokens.json", TokenChecks.Run(folder, tokens, tokenizer)))
            {
                yield return row;
            }
        }

        if (!folder.HasModel || (folder.Golden is null && folder.Tensors is null))
        {
            yield break;
        }

        using var model = LanguageModel.Load(folder.Checkpoint, options, cancellationToken);
        if (folder.Golden is { } golden)
        {
            foreach (var row in Guard(folder.Path, "golden.json", ForwardChecks.Run(folder, golden, model, values, cancellationToken)))
            {
                yield return row;
            }

            foreach (var row in Guard(folder.Path, "golden.json", ControlChecks.Run(folder, golden, model, values, oneIn, cancellationToken)))
            {
                yield return row;
            }
        }
    }

    /// <summary>Largest |a − b| relative to the length of b.</summary>
    public static double RelativeError(ReadOnlySpan<double> a, ReadOnlySpan<double> b)
    {
        if (a.Length != b.Length)
        {
            return double.PositiveInfinity;
        }

        double difference = 0;
        double length = 0;
        for (int i = 0; i < a.Length; i++)
        {
            difference += (a[i] - b[i]) * (a[i] - b[i]);
            length += b[i] * b[i];
        }

        double error = Math.Sqrt(difference) / Math.Sqrt(length);
        return difference == 0 ? 0 : double.IsNaN(error) ? double.PositiveInfinity : error;
    }

    /// <summary>The largest <see cref="RelativeError"/> of a row; infinite if the lengths differ.</summary>
    public static double WorstRow(ReadOnlySpan<double> a, ReadOnlySpan<double> b, int columns)
    {
        double worst = a.Length == b.Length ? 0 : double.PositiveInfinity;
        for (int at = 0; at < b.Length && worst < double.PositiveInfinity; at += columns)
        {
            worst = Worse(worst, RelativeError(a.Slice(at, columns), b.Slice(at, columns)));
        }

        return worst;
    }

    /// <summary>The larger value, where NaN counts as infinite.</summary>
    public static double Worse(double a, double b) => double.IsNaN(a) || double.IsNaN(b) ? double.PositiveInfinity : Math.Max(a, b);

    // A missing or mistyped key in a golden file is an error of the file and not of the engine.
    private static IEnumerable<VerificationRow> Guard(string folder, string file, IEnumerable<VerificationRow> rows)
    {
        using var each = rows.GetEnumerator();
        while (true)
        {
            try
            {
                if (!each.MoveNext())
                {
                    yield break;
                }
            }
            catch (Exception e) when (e is KeyNotFoundException or InvalidOperationException or FormatException or JsonException)
            {
                throw new GoldenException(Path.Combine(folder, file), $"does not have the expected form: {e.Message}", e);
            }

            yield return each.Current;
        }
    }
}
