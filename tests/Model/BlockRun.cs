using Tiller.Features;
using Tiller.Kernels;
using Tiller.Law;
using Tiller.Model;
using Tiller.Ops;

namespace Tiller.Tests.Model;

/// <summary>Dual batches through blocks at the last tokens of prompts, with everything in plain arrays.</summary>
internal sealed class BlockRun(LanguageModel model, IReadOnlyList<PromptState> prompts) : IDisposable
{
    private readonly Activations _a = model.NewActivations();
    private readonly Cotangents _y = model.NewCotangents();
    private readonly RowBatch _rows = new();

    public int Width => model.Config.D;

    /// <summary>What enters block k at every prompt's last token.</summary>
    public float[][] Inputs(int k) => [.. prompts.Select(p => p.X[k])];

    /// <summary>Block k from these inputs and tangents (per prompt): its outputs and their tangents.</summary>
    public (float[][] Y, float[][][] Dy) Forward(int k, float[][] x, float[][][] dx) => Through(k, k, x, dx, null);

    /// <summary>Blocks first..last with a law, one state per prompt as in separate sequences.</summary>
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

    /// <summary>Cotangents (per prompt) of block k's output taken to its input.</summary>
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
