using System.Numerics.Tensors;
using System.Runtime.InteropServices;
using MathNet.Numerics.LinearAlgebra;
using Tiller.Features;
using Tiller.Kernels;
using Tiller.Model;
using Tiller.Ops;

namespace Tiller.Synthesis;

/// <summary>
/// The blocks linearised at the last token of the calibration prompts, averaged over the prompts in float64: A_k = mean ∂f_k/∂x_k (docs/math.md §1,
/// §9). <see cref="JacobiansOnDevice"/> forms them, summed over blocks of prompts in the order of a tree (<see cref="SumNode"/>) and rounded to
/// float32 as a file keeps them; <see cref="Push"/> and <see cref="Pull"/> apply A_k and its transpose without forming it, summed prompt by prompt.
/// Products run in float32 on directions of unit length. <see cref="PassPlan"/> bounds the scratch memory.
/// </summary>
internal sealed class Linearization : BlockMaps
{
    private readonly LanguageModel _model;
    private readonly IReadOnlyList<PromptState> _prompts;
    private readonly IReadOnlyList<Range> _promptBlocks;
    private readonly int _averaged;
    private readonly List<Lane> _lanes = [];
    private readonly IReadOnlyList<Activations> _blocks = []; // what the one token left in every block, if that is kept

    /// <summary>Makes a linearization; scratch memory is allocated by its first pass.</summary>
    /// <param name="model">The plain model.</param>
    /// <param name="prompts">Calibration prompts, run with their caches kept. The caller owns them.</param>
    /// <param name="blocks">Blocks of these prompts, in order; null for those of one list (<see cref="PromptBlocks"/>).</param>
    /// <param name="averaged">Number of prompts of the mean, if these are not all of them; null otherwise.</param>
    public Linearization(LanguageModel model, IReadOnlyList<PromptState> prompts, IReadOnlyList<Range>? blocks = null, int? averaged = null)
        : base(model.Ops)
    {
        (_model, _prompts) = (model, prompts);
        (_promptBlocks, _averaged) = (blocks ?? PromptBlocks.Of(prompts.Count), averaged ?? prompts.Count);
    }

    private Linearization(LanguageModel model, PromptState prompt, IReadOnlyList<Activations> blocks)
        : this(model, [prompt])
    {
        _blocks = blocks;
    }

    /// <summary>
    /// Runs the plain model on the token that comes next in a sequence, and linearises the blocks there. What the token leaves in them is kept, so
    /// that a pullback reads a block's weights once and not twice.
    /// </summary>
    /// <param name="model">The plain model.</param>
    /// <param name="cache">Keys and values of the tokens before, with room for another; stays the caller's.</param>
    /// <param name="position">Position of the token.</param>
    /// <param name="id">The token.</param>
    /// <param name="state">Result: the token's states.</param>
    /// <param name="cancellationToken">Checked between blocks.</param>
    public static Linearization AtNext(
        LanguageModel model, KvCache cache, int position, int id, out PromptState state, CancellationToken cancellationToken)
    {
        Activations[] blocks = [.. Enumerable.Range(0, model.Config.L).Select(_ => model.NewActivations())];
        try
        {
            state = PromptState.Next(model, cache, position, id, blocks, cancellationToken);
            return new Linearization(model, state, blocks);
        }
        catch
        {
            Array.ForEach(blocks, a => a.Dispose());
            throw;
        }
    }

    /// <summary>Rows for which the activations of all lanes have memory.</summary>
    public int Capacity => _lanes.Sum(lane => lane.A.Capacity);

    private int D => _model.Config.D;

    /// <inheritdoc/>
    public override IEnumerable<Matrix<double>> Jacobians(IReadOnlyList<int> blocks, CancellationToken cancellationToken)
    {
        foreach (var a in JacobiansOnDevice(blocks, cancellationToken))
        {
            yield return ToHost(a);
        }
    }

    /// <summary>Computes A_k // (D, D) of the blocks in order by pushing the identity forward, of as many at once as a pass takes.</summary>
    public override IEnumerable<ColumnMajor> JacobiansOnDevice(IReadOnlyList<int> blocks, CancellationToken cancellationToken)
    {
        int together = PlanOf(D, blocks.Count).Blocks;
        using var memory = Ops.Allocate(D, D * together, out var results);
        foreach (int[] some in blocks.Chunk(together))
        {
            Sum(some, SumNode.Root(_promptBlocks.Count), rounds: true, results.Slice(0, D * some.Length), cancellationToken);
            for (int i = 0; i < some.Length; i++)
            {
                yield return results.Slice(D * i, D);
            }
        }
    }

    /// <summary>Computes A_k // (D, D) of one block in memory of the caller.</summary>
    /// <param name="k">The block.</param>
    /// <param name="result">Receives A_k, on the model's device.</param>
    /// <param name="cancellationToken">Checked before every pass.</param>
    public void Jacobian(int k, ColumnMajor result, CancellationToken cancellationToken) =>
        Sum([k], SumNode.Root(_promptBlocks.Count), rounds: true, result, cancellationToken);

    /// <summary>Computes the part of A_k // (D, D) that is the sum over some of the blocks, in float64.</summary>
    /// <param name="k">The block of the model.</param>
    /// <param name="node">The blocks of prompts, whose sum is a node of the tree.</param>
    /// <param name="result">Receives the sum, on the model's device.</param>
    /// <param name="cancellationToken">Checked before every pass.</param>
    public void Sum(int k, SumNode node, ColumnMajor result, CancellationToken cancellationToken) =>
        Sum([k], node, rounds: false, result, cancellationToken);

    // A column is rounded where its last pass ends, in the cache of the thread that ran it.
    private void Sum(int[] blocks, SumNode node, bool rounds, ColumnMajor results, CancellationToken cancellationToken) => ForPasses(
        blocks.Length, D, pulls: false, most => GroupsOf(node, rounds, most), (lane, block, group, column, p) =>
    {
        cancellationToken.ThrowIfCancellationRequested();
        int k = blocks[block];
        var result = results.Slice(D * block, D);
        Place(lane, k, group.Prompts, p, cancellationToken);
        Ops.IdentityRows(column, lane.Tangents.Slice(0, p));
        Ops.RepeatPanel(lane.Tangents, p);
        lane.Rows.UnitTangents = column;
        _model.Forward(k, lane.Rows, lane.A);
        cancellationToken.ThrowIfCancellationRequested();
        ColumnMajor Slot(int slot) => slot == 0 ? result.Slice(column, p) : lane.Slots[slot - 1].Slice(0, p);
        Gather(lane.PushedTangents, Enumerable.Repeat(1.0, p).ToArray(), group, Slot(group.Slot));
        for (int slot = group.Slot; slot > group.Slot - group.Ends; slot--)
        {
            Ops.Add(1, Slot(slot), Slot(slot - 1));
        }

        if (group.Rounds)
        {
            Ops.RoundToSingle(result.Slice(column, p));
        }
    });

    /// <summary>Computes A_k X for X // (D, p).</summary>
    public override Matrix<double> Push(int k, Matrix<double> x, CancellationToken cancellationToken) => OnHost(x.ColumnCount, result =>
        ForPasses(blocks: 1, x.ColumnCount, pulls: false, AllInOrder, (lane, _, group, column, p) =>
        {
            cancellationToken.ThrowIfCancellationRequested();
            Place(lane, k, group.Prompts, p, cancellationToken);
            double[] scales = UploadUnits(lane, x, column, p, lane.Tangents);
            _model.Forward(k, lane.Rows, lane.A);
            cancellationToken.ThrowIfCancellationRequested();
            Gather(lane.PushedTangents, scales, group, result.Slice(column, p));
        }));

    /// <summary>Computes A_k' Z for Z // (D, p).</summary>
    public override Matrix<double> Pull(int k, Matrix<double> z, CancellationToken cancellationToken) => OnHost(z.ColumnCount, result =>
        ForPasses(blocks: 1, z.ColumnCount, pulls: true, AllInOrder, (lane, _, group, column, p) =>
        {
            cancellationToken.ThrowIfCancellationRequested();
            var a = lane.A;
            if (_blocks.Count > 0)
            {
                a = _blocks[k];
                AddRows(lane, group.Prompts, 0, cancellationToken);
            }
            else
            {
                Place(lane, k, group.Prompts, 0, cancellationToken);
                _model.Forward(k, lane.Rows, a);
            }

            lane.Groups.Clear();
            for (int i = 0; i < lane.Rows.Values; i++)
            {
                lane.Groups.Add(p);
            }

            double[] scales = UploadUnits(lane, z, column, p, lane.Cotangents);
            _model.Pullback(k, lane.Rows, a, lane.Groups, lane.Y);
            cancellationToken.ThrowIfCancellationRequested();
            Gather(lane.Cotangents, scales, group, result.Slice(column, p));
        }));

    /// <inheritdoc/>
    public override void Dispose()
    {
        foreach (var lane in _lanes)
        {
            lane.Dispose();
        }

        foreach (var block in _blocks)
        {
            block.Dispose();
        }
    }

    private Matrix<double> OnHost(int columns, Action<ColumnMajor> compute)
    {
        using var memory = Ops.Allocate(D, columns, out var result);
        compute(result);
        return ToHost(result);
    }

    private Matrix<double> ToHost(ColumnMajor result)
    {
        double[] numbers = new double[result.Length];
        Ops.Download(result, numbers);
        return Matrix<double>.Build.Dense(result.Rows, result.Columns, numbers);
    }

    private PassPlan PlanOf(int columns, int blocks) => PassPlan.Of(_model.Config, columns, Ops.Callers, Ops.JacobianRows, blocks);

    // All prompts, at most so many in a pass, one after another.
    private List<Group> AllInOrder(int most) =>
        [.. Parts(0.._prompts.Count, most).Select((prompts, i) => new Group(prompts, Slot: 0, i > 0, Ends: 0))];

    // As below. The tangents that are averaged are float32 themselves, so that rounding their mean loses nothing that was known.
    private Group[] GroupsOf(SumNode node, bool rounds, int most)
    {
        Group[] groups = [.. GroupsOf(node, slot: 0, most)];
        groups[^1] = groups[^1] with { Rounds = rounds };
        return groups;
    }

    // The passes of a node of the tree. Its second half is summed in the next slot, which is added to the first when it ends.
    private IEnumerable<Group> GroupsOf(SumNode node, int slot, int most)
    {
        if (node.Count == 1)
        {
            return Parts(_promptBlocks[node.First], most).Select((prompts, i) => new Group(prompts, slot, i > 0, Ends: 0));
        }

        var (left, right) = node.Halves;
        Group[] second = [.. GroupsOf(right, slot + 1, most)];
        second[^1] = second[^1] with { Ends = second[^1].Ends + 1 };
        return GroupsOf(left, slot, most).Concat(second);
    }

    private static IEnumerable<Range> Parts(Range prompts, int most)
    {
        for (int begin = prompts.Start.Value; begin < prompts.End.Value; begin += most)
        {
            yield return begin..Math.Min(begin + most, prompts.End.Value);
        }
    }

    /// <summary>
    /// Runs the passes (lane, index of the block, group, first column, columns) of a <see cref="PassPlan"/>. The groups of a column run in order.
    /// </summary>
    private void ForPasses(int blocks, int columns, bool pulls, Func<int, IReadOnlyList<Group>> groupsOf, Action<Lane, int, Group, int, int> pass)
    {
        // The passes end their uses on threads of the device. This use ends after them, so that none of these threads has to free the device.
        using var work = _model.Enter();
        var plan = PlanOf(columns, blocks);
        while (_lanes.Count < plan.Lanes)
        {
            _lanes.Add(new Lane(_model));
        }

        // For the largest pass at once: buffers that grow to it from a smaller one take more.
        var groups = groupsOf(plan.Prompts);
        for (int lane = 0; lane < plan.Lanes; lane++)
        {
            _lanes[lane].Reserve(Math.Min(plan.Prompts, _prompts.Count), plan.Largest(lane), pulls, groups.Max(group => group.Slot));
        }

        // Every lane runs one pass at a time, so that other work can be done between two passes.
        int panels = blocks * plan.Panels, passes = (panels + plan.Lanes - 1) / plan.Lanes * groups.Count;
        for (int at = 0; at < passes; at++)
        {
            if (at > 0)
            {
                BetweenPasses?.Invoke();
            }

            var (round, group) = Math.DivRem(at, groups.Count);
            Ops.ForEach(Math.Min(plan.Lanes, panels - (round * plan.Lanes)), lane =>
            {
                using var use = _model.Enter(); // throws once the model has been disposed of
                int panel = (round * plan.Lanes) + lane;
                var (first, p) = plan.Panel(panel);
                pass(_lanes[lane], panel / plan.Panels, groups[group], first, p);
            });
        }
    }

    /// <summary>
    /// Makes the value rows of a pass: the prompts' last tokens at the input of block k, each with room for <paramref name="tangents"/> tangents.
    /// </summary>
    private void Place(Lane lane, int k, Range prompts, int tangents, CancellationToken cancellationToken)
    {
        AddRows(lane, prompts, tangents, cancellationToken);
        int begin = prompts.Start.Value, count = lane.Rows.Values;
        var values = lane.Host(count * D);
        for (int i = 0; i < count; i++)
        {
            _prompts[begin + i].X[k].CopyTo(values.Slice(i * D, D));
        }

        Ops.Upload(MemoryMarshal.AsBytes(values), lane.A.X.Address);
        _model.Begin(lane.Rows, lane.A);
    }

    private void AddRows(Lane lane, Range prompts, int tangents, CancellationToken cancellationToken)
    {
        lane.Rows.Clear();
        foreach (var prompt in _prompts.Take(prompts))
        {
            lane.Rows.Add(0, prompt.Position, prompt.Cache!, steering: null, tangents);
        }

        lane.Rows.Cancellation = cancellationToken;
    }

    /// <summary>
    /// Uploads columns column .. column + p − 1 as float32 rows of unit length, to every panel of <paramref name="rows"/>. Returns the columns'
    /// lengths.
    /// </summary>
    private double[] UploadUnits(Lane lane, Matrix<double> x, int column, int p, Floats rows)
    {
        double[] scales = new double[p], numbers = DenseAlgebra.Numbers(x);
        var units = lane.Host(p * D);
        for (int j = 0; j < p; j++)
        {
            scales[j] = ToUnit(numbers.AsSpan((column + j) * D, D), units.Slice(j * D, D));
        }

        Ops.Upload(MemoryMarshal.AsBytes(units), rows.Address);
        Ops.RepeatPanel(rows, p);
        return scales;
    }

    /// <summary>result[:, j] (+)= Σ_i scales[j] · row / prompts of the mean, over the prompts of the group in order.</summary>
    private void Gather(Floats rows, double[] scales, Group group, ColumnMajor result)
    {
        TensorPrimitives.Divide(scales, _averaged, scales);
        Ops.SumPanels(rows, scales, group.Adds, result);
    }

    /// <summary>Scales x to a float32 vector of unit length. Returns the length of x.</summary>
    private static double ToUnit(ReadOnlySpan<double> x, Span<float> unit)
    {
        double length = Math.Sqrt(TensorPrimitives.SumOfSquares(x));
        if (length == 0)
        {
            unit.Clear();
            return 0;
        }

        for (int e = 0; e < unit.Length; e++)
        {
            unit[e] = (float)(x[e] / length);
        }

        return length;
    }

    /// <summary>The prompts of a pass, and what becomes of their sum.</summary>
    /// <param name="Prompts">The prompts.</param>
    /// <param name="Slot">The sum that is under way.</param>
    /// <param name="Adds">Whether that sum has prompts already.</param>
    /// <param name="Ends">So many sums end with this pass: each is added to that of the slot before it.</param>
    /// <param name="Rounds">Whether the first sum is complete then, and is rounded to float32.</param>
    private readonly record struct Group(Range Prompts, int Slot, bool Adds, int Ends, bool Rounds = false);

    /// <summary>Memory of one pass at a time.</summary>
    private sealed class Lane(LanguageModel model) : IDisposable
    {
        private readonly List<DeviceBuffer> _buffers = [];
        private float[] _host = [];

        /// <summary>Sums of the slots after the first, which is the result itself // (D, columns).</summary>
        public List<ColumnMajor> Slots { get; } = [];

        public Activations A { get; } = model.NewActivations();

        public Cotangents Y { get; } = model.NewCotangents();

        public RowBatch Rows { get; } = new();

        public RowGroups Groups { get; } = new();

        public Floats Tangents => A.X.Slice(Rows.Values, Rows.Tangents);

        public Floats PushedTangents => A.Y.Slice(Rows.Values, Rows.Tangents);

        public Floats Cotangents => Y.Stream.Slice(0, Groups.Total);

        public void Reserve(int values, int directions, bool pulls, int slots)
        {
            if (slots > 0 && Slots.Exists(slot => slot.Columns < directions))
            {
                FreeSlots();
            }

            while (Slots.Count < slots)
            {
                _buffers.Add(model.Ops.Allocate(model.Config.D, directions, out var slot));
                Slots.Add(slot);
            }

            A.Reserve(pulls ? values : values * (1 + directions));
            if (pulls)
            {
                Y.Reserve(values * directions);
            }
        }

        public Span<float> Host(int count)
        {
            if (_host.Length < count)
            {
                _host = new float[count];
            }

            return _host.AsSpan(0, count);
        }

        public void Dispose()
        {
            A.Dispose();
            Y.Dispose();
            FreeSlots();
        }

        private void FreeSlots()
        {
            foreach (var buffer in _buffers)
            {
                buffer.Dispose();
            }

            _buffers.Clear();
            Slots.Clear();
        }
    }
}
