using MathNet.Numerics.LinearAlgebra;
using Tiller.Features;
using Tiller.Model;
using Tiller.Synthesis;

namespace Tiller.Controllers;

/// <summary>What the shards of a fit measured, put together.</summary>
internal sealed class FitShards
{
    private readonly FitDivision _division;
    private readonly ShardSet _set;
    private readonly int _layers;
    private readonly int _width;
    private readonly ShardSums _sums;

    private FitShards(FitDivision division, ShardSet set, LanguageModel model)
    {
        (_division, _set, _layers, _width) = (division, set, model.Config.L, model.Config.D);
        _sums = new ShardSums(set, division.Lists.Blocks.Count, _width);
        _sums.Require(division.Formed);
    }

    /// <summary>The prompts.</summary>
    public FitLists Lists => _division.Lists;

    /// <summary>Opens the shards of a fit.</summary>
    /// <exception cref="ShardException">They are of something else, or one is missing, there twice, or damaged.</exception>
    public static FitShards Open(LanguageModel model, FitLists lists, FitOptions options, IReadOnlyList<string> folders)
    {
        var division = FitDivision.Of(model, lists, options);
        var set = ShardSet.Open(folders);
        set.CheckWork(division.Work(model, request: "", origin: ""));
        return new FitShards(division, set, model);
    }

    /// <summary>The states of one of the lists.</summary>
    public IReadOnlyList<PromptState> StatesOf(int[][] prompts)
    {
        int list = 0;
        while (!ReferenceEquals(Lists.Run[list], prompts))
        {
            list++;
        }

        var states = new List<PromptState>();
        for (int shard = 0; shard < _set.Count; shard++)
        {
            var (begin, count) = Lists.Of(new Shard(shard, _set.Count))[list].GetOffsetAndLength(prompts.Length);
            float[] numbers = count == 0 ? []
                : _set.Singles(shard, ShardFiles.States, FitDivision.StatesOf(list), count, _layers + 1, _width);
            states.AddRange(PromptState.Of(prompts.AsSpan(begin, count), numbers, _layers + 1, _width));
        }

        return states;
    }

    /// <summary>A_k // (D, D): the sums of all shards, added in the order of the tree and rounded to float32.</summary>
    public Matrix<double> Jacobian(int k)
    {
        var sum = Matrix<double>.Build.Dense(_width, _width, _sums.Of(k));
        DenseAlgebra.RoundToSingle(sum);
        return sum;
    }
}

/// <summary>
/// The mean Jacobians of shards. Products with directions are not theirs: the prompts are run for them as one process runs them, once the first is
/// asked for.
/// </summary>
internal sealed class SummedJacobians(LanguageModel model, FitShards shards) : BlockMaps(model.Ops)
{
    private readonly List<PromptState> _states = [];
    private Linearization? _linearization;

    /// <inheritdoc/>
    public override IEnumerable<Matrix<double>> Jacobians(IReadOnlyList<int> blocks, CancellationToken cancellationToken)
    {
        foreach (int k in blocks)
        {
            cancellationToken.ThrowIfCancellationRequested();
            yield return shards.Jacobian(k);
        }
    }

    /// <inheritdoc/>
    public override Matrix<double> Push(int k, Matrix<double> x, CancellationToken cancellationToken) =>
        Linearised(cancellationToken).Push(k, x, cancellationToken);

    /// <inheritdoc/>
    public override Matrix<double> Pull(int k, Matrix<double> z, CancellationToken cancellationToken) =>
        Linearised(cancellationToken).Pull(k, z, cancellationToken);

    /// <inheritdoc/>
    public override void Dispose()
    {
        _linearization?.Dispose();
        foreach (var state in _states)
        {
            state.Dispose();
        }
    }

    private Linearization Linearised(CancellationToken cancellationToken)
    {
        if (_linearization is null)
        {
            foreach (int[][] list in shards.Lists.Averaged)
            {
                _states.AddRange(PromptState.Collect(model, list, keepCaches: true, done: null, cancellationToken));
            }

            _linearization = new Linearization(model, _states, shards.Lists.Blocks) { BetweenPasses = BetweenPasses };
        }

        return _linearization;
    }
}
