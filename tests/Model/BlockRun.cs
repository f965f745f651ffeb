using Tiller.Features;
using Tiller.Kernels;
using Tiller.Law;
using Tiller.Model;
using Tiller.Ops;

namespace Tiller.Tests.Model;

/// <summary>Runs dual batches through blocks at the last tokens of prompts, with inputs and results in plain arrays.</summary>
internal sealed class BlockRun(LanguageModel model, IReadOnlyList<PromptState> prompts) : IDisposable
{
    private readonly Activations _a = model.NewActivations();
    private readonly Cotangents _y = model.NewCotangents();
    private readonly RowBatch _rows = new();

    public int Width => model.Config.D;

    /// <summary>The state that enters block k at the last token of every prompt.</summary>
    public float[][] Inputs(int k) => [.. prompts.Select(p => p.X[k])];

    /// <summary>The outputs of block k and their tangents, for these inputs and tangents of each prompt.</summary>
    public (float[][] Y, float[][][] Dy) Forward(int k, float[][] x, float[][][] dx) => Through(k, k, x, dx, null);

    /// <summary>The same for blocks first..last with a law, which has one steering state per prompt, as in separate sequences.</summary>
    public (float[][] Y, float[][][] Dy) Through(int first, int last, float[][] x, float[][][] dx, IReadOnlyList<SteeringState>? steering)
    {
        Place(x, dx, steering);
        for (int k = first; k <= last; k++)
        {
            model.Forward(k, _rows, _a);
            _a.Advance();
        }

        float[][] all = [.. Enumerable.Range(0, _rows.Total).Select(row => Read(_a.X, row))];
        return (all[..prompts.Count], Grouped(all[prompts.Count..], dx));
    }

    /// <summary>The pullback of each prompt's cotangents from the output of block k to its input.</summary>
    public float[][][] Pullback(int k, float[][] x, float[][][] y)
    {
        Place(x, [.. prompts.Select(_ => Array.Empty<float[]>())], null);
        model.Forward(k, _rows, _a);
        var groups = new RowGroups();
        int total = y.Sum(group => group.Length);
        _y.Reserve(total);
        int at = 0;
        foreach (var group in y)
        {
            groups.Add(group.Length);
            foreach (float[] row in group)
            {
                model.Ops.UploadRow(row, _y.Stream, at++);
            }
        }

        model.Pullback(k, _rows, _a, groups, _y);
        return Grouped([.. Enumerable.Range(0, total).Select(row => Read(_y.Stream, row))], y);
    }

    public void Dispose()
    {
        _a.Dispose();
        _y.Dispose();
    }

    private void Place(float[][] x, float[][][] dx, IReadOnlyList<SteeringState>? steering)
    {
        _rows.Clear();
        for (int i = 0; i < prompts.Count; i++)
        {
            _rows.Add(0, prompts[i].Position, prompts[i].Cache!, steering?[i], dx[i].Length);
        }

        _a.Reserve(_rows.Total);
        int row = 0;
        foreach (float[] line in x.Concat(dx.SelectMany(group => group)))
        {
            model.Ops.UploadRow(line, _a.X, row++);
        }

        model.Begin(_rows, _a);
    }

    private float[] Read(Floats rows, int row)
    {
        float[] line = new float[Width];
        model.Ops.DownloadRow(rows, row, line);
        return line;
    }

    private static float[][][] Grouped(float[][] rows, float[][][] like)
    {
        int at = 0;
        return [.. like.Select(group => group.Select(_ => rows[at++]).ToArray())];
    }
}
