using System.Diagnostics;
using MathNet.Numerics.LinearAlgebra;
using Tiller.Features;
using Tiller.Model;
using Tiller.Ops;
using Tiller.Synthesis;

namespace Tiller.Controllers;

/// <summary>The mean Jacobians of a file, which owns nothing of the model: what is measured once and solved with many times.</summary>
/// <param name="file">A file that is complete; closed with this.</param>
/// <param name="ops">The device that solves.</param>
internal sealed class StoredJacobians(JacobianFile file, DeviceOps ops) : BlockMaps(ops)
{
    private (int Block, Matrix<double> A)? _last;

    /// <summary>Opens a file, and first measures what it does not have yet.</summary>
    /// <param name="model">The plain model.</param>
    /// <param name="path">The file, which is created if it is not there.</param>
    /// <param name="lists">The prompts of the fit.</param>
    /// <param name="shards">What shards of the fit measured, which then needs no pass over the model; null for none.</param>
    /// <param name="progress">Told after every pass and block that is measured.</param>
    /// <param name="cancellationToken">Checked between blocks; what was measured before stays in the file.</param>
    /// <returns>The file, and how long blocks were linearised.</returns>
    /// <exception cref="JacobianFileException">The file is of something else, is damaged, in use or cannot be written.</exception>
    public static (JacobianFile File, double ElapsedMs) Measure(
        LanguageModel model, string path, FitLists lists, FitShards? shards, IProgress<FitProgress>? progress, CancellationToken cancellationToken)
    {
        var calibration = lists.Averaged;
        var identity = JacobianIdentity.Of(model, [.. calibration.SelectMany(list => list)]);
        var file = JacobianFile.Open(path, identity, fills: false);
        IDisposable? claim = null;
        var run = new List<PromptState>();
        var clock = new Stopwatch();
        try
        {
            if (file?.IsComplete != true || Missing().Count > 0)
            {
                file?.Dispose();
                file = null;
                claim = JacobianFile.Claim(path);
                file = JacobianFile.Open(path, identity, fills: true);
            }

            bool linearises = file?.IsComplete != true;
            var missing = Missing();
            int[][][] passes = shards is not null ? []
                : [.. (linearises ? calibration : []).Concat(missing.Where(list => !linearises || !calibration.Contains(list)))];
            int total = passes.Sum(list => list.Length);
            var averaged = new List<PromptState>();
            var fresh = shards is null ? new Dictionary<string, IReadOnlyList<PromptState>>(StringComparer.Ordinal)
                : missing.DistinctBy(JacobianIdentity.HashOf).ToDictionary(JacobianIdentity.HashOf, shards.StatesOf, StringComparer.Ordinal);
            foreach (int[][] list in passes)
            {
                int before = run.Count;
                bool kept = linearises && calibration.Contains(list);
                var states = PromptState.Collect(
                    model, list, kept, new Relay<int>(n => progress?.Report(new FitProgress(FitStage.Activations, before + n, total))),
                    cancellationToken);
                run.AddRange(states);
                averaged.AddRange(kept ? states : []);
                if (missing.Contains(list))
                {
                    fresh[JacobianIdentity.HashOf(list)] = states;
                }
            }

            if (file is null || fresh.Count > 0)
            {
                var old = file;
                file = null;
                file = JacobianFile.Write(path, identity, old, fresh);
            }

            if (linearises)
            {
                clock.Start();
                using BlockMaps linearization = shards is null
                    ? new Linearization(model, averaged, lists.Blocks) : new SummedJacobians(model, shards);
                int[] blocks = [.. Enumerable.Range(0, identity.Layers).Reverse().Where(k => !file.Has(k))];
                int done = 0;
                linearization.BetweenPasses = Report;
                foreach (var (a, block) in linearization.Jacobians(blocks, cancellationToken).Zip(blocks))
                {
                    file.Write(block, a);
                    done++;
                    Report();
                }

                void Report() => progress?.Report(new FitProgress(FitStage.Linearisation, done, blocks.Length));

                // Others may read it from now on.
                file.Dispose();
                file = JacobianFile.Open(path, identity, fills: false)
                    ?? throw new JacobianFileException(path, "the file was removed while it was filled.");
            }

            var result = (file!, clock.Elapsed.TotalMilliseconds);
            file = null;
            return result;

            List<int[][]> Missing() => [.. lists.Run.Where(list => file?.HasStatesOf(list) != true)];
        }
        finally
        {
            file?.Dispose();
            claim?.Dispose();
            foreach (var state in run)
            {
                state.Dispose();
            }
        }
    }

    /// <inheritdoc/>
    public override IEnumerable<Matrix<double>> Jacobians(IReadOnlyList<int> blocks, CancellationToken cancellationToken)
    {
        foreach (int k in blocks)
        {
            cancellationToken.ThrowIfCancellationRequested();
            if (_last?.Block != k)
            {
                _last = null; // two of them need not be in memory at once
                _last = (k, file.Read(k));
            }

            yield return _last.Value.A;
        }
    }

    /// <inheritdoc/>
    public override Matrix<double> Push(int k, Matrix<double> x, CancellationToken cancellationToken) =>
        DenseAlgebra.Multiply(Jacobian(k, cancellationToken), x, cancellationToken);

    /// <inheritdoc/>
    public override Matrix<double> Pull(int k, Matrix<double> z, CancellationToken cancellationToken) =>
        DenseAlgebra.TransposeMultiply(Jacobian(k, cancellationToken), z, cancellationToken);

    /// <inheritdoc/>
    public override void Dispose() => file.Dispose();
}
