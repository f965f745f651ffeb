using System.Globalization;
using MathNet.Numerics.LinearAlgebra;
using Tiller.Checkpoint;
using Tiller.Features;
using Tiller.Model;

namespace Tiller.Synthesis;

/// <summary>
/// One of several parts of a measurement of local linearity, run by a process of its own: what is measured at its prompts, and the float64 sums of
/// their Jacobians. <see cref="LinearityOptions.Shards"/> puts the parts together; the report is bit for bit that of one process.
/// </summary>
public sealed class LinearityShard
{
    private readonly LanguageModel _model;
    private readonly LinearityPrompts _prompts;
    private readonly LinearityOptions _options;
    private readonly Shard _shard;
    private readonly ShardedWork _work;

    private LinearityShard(LanguageModel model, LinearityPrompts prompts, LinearityOptions options, Shard shard, string request, string origin)
    {
        (_model, _prompts, _options, _shard) = (model, prompts, options, shard);
        _work = LinearityParts.Work(model, prompts, options, request, origin);
        Prompts = Own.GetOffsetAndLength(prompts.Ids.Length).Length;
        var c = model.Config;
        long pairs = LinearityPrompts.PairsOf(model, options), steered = options.Law is null ? 0 : 1;
        long atPrompt = (sizeof(double) * ((pairs * (c.D + 1L)) + (options.Directions * options.Sizes.Count))) + (sizeof(float) * steered * c.D);
        SizeInBytes = (c.L * ((sizeof(double) * (long)c.D * c.D * Nodes.Count) + (atPrompt * Prompts)))
            + (sizeof(float) * (1 + steered) * (c.L + 1L) * c.D * Prompts);
    }

    /// <summary>Number of prompts that the part measures.</summary>
    public int Prompts { get; }

    /// <summary>Number of prompts of all parts.</summary>
    public int AllPrompts => _prompts.Ids.Length;

    /// <summary>Size of the numbers that the part keeps.</summary>
    public long SizeInBytes { get; }

    private Range Own => _shard.Of(_prompts.Ids.Length);

    private IReadOnlyList<SumNode> Nodes => SumNode.Within(_prompts.Ids.Length, Own);

    /// <summary>Prepares a part.</summary>
    /// <param name="model">The plain model, of a checkpoint.</param>
    /// <param name="lists">Prompts of one kind or several, each list at least one.</param>
    /// <param name="options">Null for the defaults.</param>
    /// <param name="shard">Which part.</param>
    /// <param name="request">A text that is kept with the part and must be the same for all parts.</param>
    /// <param name="origin">A text that is kept with the part and may differ between parts, such as the folder that relative paths lead from.</param>
    /// <param name="cancellationToken">Checked between prompts.</param>
    /// <exception cref="TillerException">A prompt cannot be encoded, or a list is empty.</exception>
    /// <exception cref="ArgumentException">The model has random weights.</exception>
    public static LinearityShard Of(
        LanguageModel model, IReadOnlyList<IReadOnlyList<Prompt>> lists, LinearityOptions? options, Shard shard, string request = "",
        string origin = "", CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(model);
        ArgumentNullException.ThrowIfNull(lists);
        ArgumentNullException.ThrowIfNull(request);
        ArgumentNullException.ThrowIfNull(origin);
        options ??= new LinearityOptions();
        options.Check();
        return new LinearityShard(model, LinearityPrompts.Of(model, lists, cancellationToken), options, shard, request, origin);
    }

    /// <summary>Measures the part. What an earlier run of it has measured is not measured again.</summary>
    /// <param name="folder">Folder for the files; all parts may share it.</param>
    /// <param name="progress">Told the number of blocks done.</param>
    /// <param name="cancellationToken">Checked between passes; blocks that were measured before stay.</param>
    /// <exception cref="ShardException">The folder holds parts of something else, or a damaged file.</exception>
    /// <exception cref="TillerException">A number is not finite, or a file cannot be written.</exception>
    /// <exception cref="IOException">The folder cannot be made.</exception>
    public void Measure(string folder, IProgress<int>? progress = null, CancellationToken cancellationToken = default)
    {
        using var use = _model.Enter();
        var files = new ShardFiles(folder, _work, _shard);
        bool hasStates = files.Has(ShardFiles.States);
        int layers = _model.Config.L, width = _model.Config.D;
        int[] blocks = Prompts == 0 ? [] : [.. Enumerable.Range(0, layers).Where(k => !files.Has(ShardFiles.PartOf(k)))];
        if (hasStates && blocks.Length == 0)
        {
            return;
        }

        using var data = new MeasuredLinearity(_model, _prompts, _options, Own, cancellationToken);
        if (!hasStates)
        {
            files.Write(ShardFiles.States, [.. new[] { (LinearityParts.Plain, data.States), (LinearityParts.Steered, data.Steered) }
                .Where(x => x.Item2 is not null)
                .Select(x => new ShardTensor<float>(x.Item1, [Prompts, layers + 1, width], [.. x.Item2!.SelectMany(y => y).SelectMany(y => y)]))]);
        }

        int done = layers - blocks.Length;
        foreach (int k in blocks)
        {
            var measured = new List<PromptLinearity>();
            ShardTensor[] sums =
            [
                .. Nodes.Select(node =>
                {
                    var sum = data.Sum(k, node, measured, cancellationToken);
                    Finite.Check(sum, "The sum of Jacobians A", k);
                    return new ShardTensor<double>(ShardFiles.NameOf(node), [width, width], DenseAlgebra.Numbers(sum));
                }),
            ];
            int pairs = measured[0].Pairs.S.Count;
            files.Write(ShardFiles.PartOf(k),
            [
                .. sums,
                new ShardTensor<double>(
                    LinearityParts.Residuals, [Prompts, _options.Directions, _options.Sizes.Count],
                    [.. measured.SelectMany(p => p.Residuals).SelectMany(r => r)]),
                new ShardTensor<double>(LinearityParts.Values, [Prompts, pairs], [.. measured.SelectMany(p => p.Pairs.S)]),
                new ShardTensor<double>(
                    LinearityParts.Vectors, [Prompts, pairs, width], [.. measured.SelectMany(p => DenseAlgebra.Numbers(p.Pairs.U))]),
                .. _options.Law is null ? [] : new[]
                {
                    new ShardTensor<float>(LinearityParts.Unmoved, [Prompts, width], [.. measured.SelectMany(p => p.Unmoved!)]),
                },
            ]);
            progress?.Report(++done);
        }
    }
}

/// <summary>The names of what a shard of a measurement of linearity keeps.</summary>
internal static class LinearityParts
{
    /// <summary>x_0..x_L of the plain runs // (n, L+1, D).</summary>
    public const string Plain = "states";

    /// <summary>x_0..x_L of the steered runs // (n, L+1, D).</summary>
    public const string Steered = "steered";

    /// <summary>|f(x + δ) − f(x) − A δ| / |δ| // (n, directions, sizes).</summary>
    public const string Residuals = "residuals";

    /// <summary>Leading singular values // (n, pairs).</summary>
    public const string Values = "values";

    /// <summary>Leading left singular vectors // (n, pairs, D).</summary>
    public const string Vectors = "vectors";

    /// <summary>f_k(x_k) of the steered runs // (n, D).</summary>
    public const string Unmoved = "unmoved";

    /// <summary>Describes what is divided. The law is the caller's to describe, in the request.</summary>
    public static ShardedWork Work(LanguageModel model, LinearityPrompts prompts, LinearityOptions options, string request, string origin)
    {
        using var hash = new IdentityHash();
        string sizes = string.Join(' ', options.Sizes.Select(size => size.ToString("R", CultureInfo.InvariantCulture)));
        hash.Add(string.Create(
            CultureInfo.InvariantCulture,
            $"sizes {sizes}, {options.Directions} directions, {LinearityPrompts.PairsOf(model, options)} pairs, "
            + $"{(options.Law is null ? "no law" : "a law")}, {options.SteeredTokens}"));
        hash.Add(prompts.ListOf);
        foreach (int[] ids in prompts.Ids)
        {
            hash.Add(ids);
        }

        return ShardedWork.Of(model, "linearity", hash.End(), request, origin);
    }
}

/// <summary>What the shards of a measurement of linearity measured, put together.</summary>
internal sealed class LinearityShards : LinearityData
{
    private readonly ShardSet _set;
    private readonly LinearityOptions _options;
    private readonly int _prompts;
    private readonly int _width;
    private readonly int _pairs;
    private readonly ShardSums _sums;

    private LinearityShards(LanguageModel model, LinearityPrompts prompts, LinearityOptions options, ShardSet set)
    {
        (_set, _options, _prompts, _width) = (set, options, prompts.Ids.Length, model.Config.D);
        _pairs = LinearityPrompts.PairsOf(model, options);
        _sums = new ShardSums(set, _prompts, _width);
        _sums.Require(Enumerable.Range(0, model.Config.L));
        States = Read(LinearityParts.Plain, model.Config.L + 1);
        Steered = options.Law is null ? null : Read(LinearityParts.Steered, model.Config.L + 1);
    }

    /// <inheritdoc/>
    public override float[][][] States { get; }

    /// <inheritdoc/>
    public override float[][][]? Steered { get; }

    /// <summary>Opens the shards of a measurement.</summary>
    /// <exception cref="ShardException">They are of something else, or one is missing, there twice, or damaged.</exception>
    public static LinearityShards Open(LanguageModel model, LinearityPrompts prompts, LinearityOptions options, IReadOnlyList<string> folders)
    {
        var set = ShardSet.Open(folders);
        set.CheckWork(LinearityParts.Work(model, prompts, options, request: "", origin: ""));
        return new LinearityShards(model, prompts, options, set);
    }

    /// <inheritdoc/>
    public override (Matrix<double> Mean, IReadOnlyList<PromptLinearity> Prompts) Block(int k, CancellationToken cancellationToken)
    {
        cancellationToken.ThrowIfCancellationRequested();
        string part = ShardFiles.PartOf(k);
        var mean = Matrix<double>.Build.Dense(_width, _width, _sums.Of(k));
        var measured = new List<PromptLinearity>();
        foreach (int shard in _sums.Holders)
        {
            int count = Count(shard), sizes = _options.Sizes.Count;
            double[] residuals = _set.AnyDoubles(shard, part, LinearityParts.Residuals, count, _options.Directions, sizes);
            double[] values = _set.Doubles(shard, part, LinearityParts.Values, count, _pairs);
            double[] vectors = _set.Doubles(shard, part, LinearityParts.Vectors, count, _pairs, _width);
            float[]? unmoved = _options.Law is null ? null : _set.Singles(shard, part, LinearityParts.Unmoved, count, _width);
            for (int i = 0; i < count; i++)
            {
                int prompt = i;
                measured.Add(new PromptLinearity(
                    [.. Enumerable.Range(0, _options.Directions).Select(j => Row(residuals, (prompt * _options.Directions) + j, sizes))],
                    new LeadingPairs(
                        Matrix<double>.Build.Dense(_width, _pairs, Row(vectors, i, _pairs * _width)),
                        Vector<double>.Build.Dense(Row(values, i, _pairs))),
                    unmoved is null ? null : Row(unmoved, i, _width)));
            }
        }

        return (mean, measured);
    }

    /// <inheritdoc/>
    public override void Dispose()
    {
    }

    private int Count(int shard) => new Shard(shard, _set.Count).Of(_prompts).GetOffsetAndLength(_prompts).Length;

    private float[][][] Read(string name, int layers) =>
    [
        .. _sums.Holders.SelectMany(shard =>
        {
            float[] numbers = _set.Singles(shard, ShardFiles.States, name, Count(shard), layers, _width);
            return Enumerable.Range(0, Count(shard)).Select(i =>
                Enumerable.Range(0, layers).Select(k => Row(numbers, (i * layers) + k, _width)).ToArray());
        }),
    ];

    private static T[] Row<T>(T[] numbers, int row, int length) => numbers.AsSpan(row * length, length).ToArray();
}
