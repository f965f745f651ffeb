using System.Globalization;
using MathNet.Numerics.LinearAlgebra;
using Tiller.Checkpoint;
using Tiller.Features;
using Tiller.Model;
using Tiller.Synthesis;

namespace Tiller.Controllers;

/// <summary>
/// One of several parts of a fit's passes over the model, each measured by a process of its own: the states of its prompts, and the float64 sums of
/// their Jacobians over the fixed blocks of a tree, of which it keeps the few largest that are its own. <see cref="FitOptions.Shards"/> puts the
/// parts together; the controller is bit for bit that of one process, however many parts there were.
/// </summary>
public sealed class FitShard
{
    private readonly LanguageModel _model;
    private readonly FitDivision _division;
    private readonly Shard _shard;
    private readonly ShardedWork _work;
    private readonly IReadOnlyList<Range> _prompts;

    private FitShard(LanguageModel model, FitDivision division, Shard shard, string request, string origin)
    {
        (_model, _division, _shard) = (model, division, shard);
        _prompts = division.Lists.Of(shard);
        _work = division.Work(model, request, origin);
        Prompts = division.Lists.Run.Zip(_prompts, (list, part) => part.GetOffsetAndLength(list.Length).Length).Sum();
        var c = model.Config;
        SizeInBytes = (sizeof(double) * (long)c.D * c.D * division.Formed.Count * division.NodesOf(shard).Count)
            + (sizeof(float) * (c.L + 1L) * c.D * Prompts);
    }

    /// <summary>Number of prompts that the part runs.</summary>
    public int Prompts { get; }

    /// <summary>Number of prompts of all parts.</summary>
    public int AllPrompts => _division.Lists.Run.Sum(list => list.Length);

    /// <summary>Size of the numbers that the part keeps: 8 D² bytes for each of its sums of each block, and 4 (L + 1) D for each prompt.</summary>
    public long SizeInBytes { get; }

    /// <summary>Prepares a part: checks the options and encodes the prompts.</summary>
    /// <param name="model">The plain model, of a checkpoint.</param>
    /// <param name="contrast">Prompts that show the feature and prompts that do not.</param>
    /// <param name="options">
    /// Null for the defaults. With <see cref="FitOptions.Jacobians"/>, every block is measured and not only the horizon.
    /// </param>
    /// <param name="shard">Which part.</param>
    /// <param name="request">A text that is kept with the part and must be the same for all parts.</param>
    /// <param name="origin">A text that is kept with the part and may differ between parts, such as the folder that relative paths lead from.</param>
    /// <param name="cancellationToken">Checked between prompts.</param>
    /// <exception cref="TillerException">As for the fit; or one process would form no Jacobians that parts could sum.</exception>
    /// <exception cref="ArgumentException">An option contradicts the method, or the model has random weights.</exception>
    public static FitShard Of(
        LanguageModel model, ContrastSet contrast, FitOptions? options, Shard shard, string request = "", string origin = "",
        CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(model);
        ArgumentNullException.ThrowIfNull(contrast);
        ArgumentNullException.ThrowIfNull(request);
        ArgumentNullException.ThrowIfNull(origin);
        options ??= new FitOptions();
        options = ControllerFit.Checked(model, contrast, options, [options.Weights]);
        var division = FitDivision.Of(model, FitLists.Of(model, contrast, options, cancellationToken), options);
        return new FitShard(model, division, shard, request, origin);
    }

    /// <summary>Measures the part. What an earlier run of it has measured is not measured again.</summary>
    /// <param name="folder">Folder for the files; all parts may share it.</param>
    /// <param name="progress">Told after every pass and block.</param>
    /// <param name="cancellationToken">Checked between blocks; what was measured before stays.</param>
    /// <exception cref="ShardException">The folder holds parts of something else, or a damaged file.</exception>
    /// <exception cref="TillerException">A state or a Jacobian is not finite, or a file cannot be written.</exception>
    /// <exception cref="IOException">The folder cannot be made.</exception>
    public void Measure(string folder, IProgress<FitProgress>? progress = null, CancellationToken cancellationToken = default)
    {
        using var use = _model.Enter();
        var files = new ShardFiles(folder, _work, _shard);
        var lists = _division.Lists;
        var nodes = _division.NodesOf(_shard);
        bool hasStates = files.Has(ShardFiles.States);
        int[] blocks = nodes.Count == 0 ? [] : [.. _division.Formed.Where(k => !files.Has(ShardFiles.PartOf(k)))];
        if (hasStates && blocks.Length == 0)
        {
            return;
        }

        var run = new List<IReadOnlyList<PromptState>>();
        try
        {
            int before = 0;
            for (int i = 0; i < lists.Run.Count; i++)
            {
                bool linearised = i < lists.Averaged.Count;
                if (linearised || !hasStates)
                {
                    var done = new Relay<int>(n => progress?.Report(new FitProgress(FitStage.Activations, before + n, Prompts)));
                    run.Add(PromptState.Collect(_model, lists.Run[i], linearised, done, cancellationToken, _prompts[i]));
                    before += run[^1].Count;
                }
            }

            if (!hasStates)
            {
                int layers = _model.Config.L + 1, width = _model.Config.D;
                files.Write(ShardFiles.States,
                [
                    .. run.Select((states, i) => new ShardTensor<float>(
                        FitDivision.StatesOf(i), [states.Count, layers, width], PromptState.Numbers(states))),
                ]);
            }

            Linearise(files, blocks, nodes, [.. run.Take(lists.Averaged.Count)], progress, cancellationToken);
        }
        finally
        {
            foreach (var state in run.SelectMany(states => states))
            {
                state.Dispose();
            }
        }
    }

    private void Linearise(
        ShardFiles files, int[] blocks, IReadOnlyList<SumNode> nodes, IReadOnlyList<IReadOnlyList<PromptState>> averaged,
        IProgress<FitProgress>? progress, CancellationToken cancellationToken)
    {
        if (blocks.Length == 0)
        {
            return;
        }

        int width = _model.Config.D, done = 0;
        using var linearization = new Linearization(
            _model, [.. averaged.SelectMany(states => states)], PromptBlocks.Of([.. averaged.Select(states => states.Count)]),
            _division.Lists.Averaged.Sum(list => list.Length));
        using var memory = _model.Ops.Allocate(width, width, out var sum);
        linearization.BetweenPasses = Report;
        foreach (int block in blocks)
        {
            cancellationToken.ThrowIfCancellationRequested();
            files.Write(ShardFiles.PartOf(block), [.. nodes.Select(node =>
            {
                linearization.Sum(block, node with { First = node.First - nodes[0].First }, sum, cancellationToken);
                double[] numbers = new double[sum.Length];
                _model.Ops.Download(sum, numbers);
                Finite.Check(Matrix<double>.Build.Dense(width, width, numbers), "The sum of Jacobians A", block);
                return new ShardTensor<double>(ShardFiles.NameOf(node), [width, width], numbers);
            })]);
            done++;
            Report();
        }

        void Report() => progress?.Report(new FitProgress(FitStage.Linearisation, done, blocks.Length));
    }
}

/// <summary>How a fit is divided among shards: the same for those who measure and for the one who puts together.</summary>
/// <param name="Lists">The prompts.</param>
/// <param name="Formed">Blocks of the model whose Jacobians are summed, from the last to the first.</param>
internal sealed record FitDivision(FitLists Lists, IReadOnlyList<int> Formed)
{
    /// <summary>Divides a fit.</summary>
    /// <param name="model">The plain model.</param>
    /// <param name="lists">The prompts.</param>
    /// <param name="options">Options with the method's own choices.</param>
    /// <exception cref="ShardException">One process would form no Jacobians.</exception>
    public static FitDivision Of(LanguageModel model, FitLists lists, FitOptions options)
    {
        if (!options.Method.Takes(FitInputs.Gains))
        {
            return new FitDivision(lists, []);
        }

        if (options.Jacobians is null && !options.FormsJacobians)
        {
            throw new ShardException(
                "Shards sum Jacobians, and one process would form none for FitOptions.Cost = FitCost.Feature, or with an order as la-lqr has one: it "
                + "pushes or pulls directions that each depend on the blocks before. To sum them all the same, set FitOptions.Jacobians: the "
                + "controller is then the one that one process solves from such a file.");
        }

        int first = options.Jacobians is null ? options.Layers?.First ?? 0 : 0;
        int last = options.Jacobians is null ? options.Layers?.Last ?? model.Config.L - 1 : model.Config.L - 1;
        return new FitDivision(lists, [.. Enumerable.Range(first, last - first + 1).Reverse()]);
    }

    /// <summary>The tensor with the states of a list's prompts // (n, L+1, D).</summary>
    public static string StatesOf(int list) => string.Create(CultureInfo.InvariantCulture, $"states.{list}");

    /// <summary>The sums that a shard keeps.</summary>
    public IReadOnlyList<SumNode> NodesOf(Shard shard) => SumNode.Within(Lists.Blocks.Count, shard.Of(Lists.Blocks.Count));

    /// <summary>Describes what is divided.</summary>
    public ShardedWork Work(LanguageModel model, string request, string origin)
    {
        using var hash = new IdentityHash();
        hash.Add($"blocks of {PromptBlocks.Size}, {Lists.Averaged.Count} lists averaged, Jacobians {string.Join(' ', Formed)}");
        foreach (int[][] list in Lists.Run)
        {
            hash.Add(JacobianIdentity.HashOf(list));
        }

        return ShardedWork.Of(model, "fit", hash.End(), request, origin);
    }
}
