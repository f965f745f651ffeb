using Tiller.Checkpoint;
using Tiller.Cpu;
using Tiller.Features;
using Tiller.Ops;
using Tiller.Synthesis;

namespace Tiller.Controllers;

/// <summary>Memory of one kind that a fit holds while it solves.</summary>
/// <param name="Name">
/// weights, caches, states, tokens, activations, panels, sums, jacobians, cotangents, scratch, riccati, gains, kept or certificate.
/// </param>
/// <param name="SizeInBytes">Upper bound.</param>
public readonly record struct PlannedMemory(string Name, long SizeInBytes);

/// <summary>Arithmetic of one stage of a fit; a multiply-add is two FLOPs.</summary>
/// <param name="Stage">The stage.</param>
/// <param name="SingleFlops">Float32 FLOPs of the products with weights. Norms, activations and the attention of tangents are not counted.</param>
/// <param name="DoubleFlops">Float64 FLOPs.</param>
public readonly record struct PlannedStage(FitStage Stage, double SingleFlops, double DoubleFlops);

/// <summary>
/// Memory and arithmetic of a fit, predicted from the shape of the model and the lengths of the prompts alone. Unless the method or a certificate
/// needs all Jacobians, only one is in memory at a time, or as many as the device forms together.
/// </summary>
/// <param name="Memory">Memory held at the peak of the fit.</param>
/// <param name="Stages">The stages, in order.</param>
/// <param name="AllJacobiansInBytes">Size of the float64 Jacobians of the whole horizon if all were kept; 0 if the fit forms none.</param>
public sealed record FitPlan(IReadOnlyList<PlannedMemory> Memory, IReadOnlyList<PlannedStage> Stages, long AllJacobiansInBytes)
{
    /// <summary>Bytes held at the peak.</summary>
    public long PeakInBytes => Memory.Sum(m => m.SizeInBytes);

    /// <summary>Seconds that a stage takes at these rates.</summary>
    /// <param name="stage">One of the <see cref="Stages"/>.</param>
    /// <param name="singleRate">FLOP/s in float32.</param>
    /// <param name="doubleRate">FLOP/s in float64.</param>
    public static double Seconds(PlannedStage stage, double singleRate, double doubleRate) =>
        (stage.SingleFlops / singleRate) + (stage.DoubleFlops / doubleRate);

    /// <summary>Plans a fit.</summary>
    /// <param name="c">Shape of the model.</param>
    /// <param name="weightsInBytes">Size of the model's weights in memory.</param>
    /// <param name="contrast">Number of tokens of every contrast prompt.</param>
    /// <param name="calibration">Number of tokens of every calibration prompt; null to average over the contrast prompts.</param>
    /// <param name="options">Cost, order and layers; null for the defaults. A file of Jacobians is planned as one that is not there yet.</param>
    /// <param name="callers">Number of passes that the device runs at once (<see cref="DeviceOps.Callers"/>): threads on the CPU.</param>
    /// <param name="jacobianRows">
    /// Number of rows that the device pushes through a block at once (<see cref="DeviceOps.JacobianRows"/>). The default is that of the CPU.
    /// </param>
    /// <param name="others">Number of tokens of every other prompt that is run, but not linearised; null for none.</param>
    /// <param name="weights">Number of choices of q, r and qf that are solved for.</param>
    public static FitPlan Of(
        ModelConfig c, long weightsInBytes, IReadOnlyList<int> contrast, IReadOnlyList<int>? calibration, FitOptions? options = null, int callers = 1,
        int jacobianRows = DeviceOps.UsualJacobianRows, IReadOnlyList<int>? others = null,
        int weights = 1)
    {
        options = (options ?? new FitOptions()).For(c);
        bool solves = options.Method.Takes(FitInputs.Gains);
        var kept = calibration ?? contrast;
        int prompts = solves ? kept.Count : 0;
        int steered = options.Layers?.Count ?? c.L;
        int horizon = options.Layers is { } layers ? layers.Last - layers.First + 1 : c.L;
        double block = 2 * BlockWeights(c);

        // States x_0..x_L of every prompt; keys and values of the linearised prompts, and of the prompts in the pass that runs the others.
        int[] run = [.. solves && calibration is null ? [] : contrast, .. others ?? []], everything = [.. solves ? kept : [], .. run];
        long positions = (solves ? kept.Sum(n => (long)KvCache.CapacityFor(n, c.MaxPositions)) : 0) + run.OrderDescending().Take(2).Sum();
        var memory = new List<PlannedMemory>
        {
            new("weights", weightsInBytes),
            new("caches", 8L * c.L * c.G * c.E * positions),
            new("states", 4L * (c.L + 1) * c.D * everything.Length),
        };

        // Every token of every prompt once: linear maps, and attention to the earlier tokens.
        double activations = everything.Sum(Run);
        if (options.Method.Takes(FitInputs.Tokens))
        {
            // Once more, with every prompt's keys and values and every token's state at once.
            activations += contrast.Sum(Run);
            memory.Add(new PlannedMemory(
                "tokens", contrast.Sum(n => (4L * c.D * n) + (8L * c.L * c.G * c.E * KvCache.CapacityFor(n, c.MaxPositions)))));
        }

        bool allKept = options.Method.Takes(FitInputs.AllJacobians);
        bool formed = options.Jacobians is not null || options.FormsJacobians;

        // v' A v of every layer: one tangent each, where A itself is not there.
        double single = 0, solve = 0;
        if (solves)
        {
            single = (options.Jacobians is not null ? 0 : formed ? c.L - horizon : c.L) * prompts * 2.0 * block;
            if (options.Jacobians is not null)
            {
                // Every block is measured whatever is solved; one Jacobian is on the device and in host memory.
                memory.Add(new PlannedMemory("kept", 16L * c.D * c.D));
            }

            if (formed)
            {
                // Without a file, each choice of weights linearises again, unless the method keeps all Jacobians.
                int blocks = options.Jacobians is not null ? c.L : horizon;
                AddJacobians(blocks);
                AddSums(Passes(c.D, blocks));
                single += (options.Jacobians is not null || allKept ? 1 : weights) * Formed(blocks);
            }
        }

        double gains = 0; // bytes
        if (solves && allKept)
        {
            // A and K of every block are kept.
            var solving = options.Method.Solving(horizon, c.D);
            memory.Add(new PlannedMemory("riccati", solving.SizeInBytes));
            gains = 2 * 8.0 * horizon * c.D * c.D;
            solve = weights * solving.Flops;
        }
        else if (solves && options.Order is { } order)
        {
            memory.Add(new PlannedMemory("riccati", DenseRiccati.SizeInBytes(order)));
            gains = 8.0 * c.D * order * ((2 * horizon) + 1);
            if (!formed)
            {
                AddPass(Passes(order), pulled: false, fromHost: true);
                single += weights * horizon * Rows(Passes(order), prompts) * block;
            }

            // Basis: sketch, two power passes, projection; Ã and Q̃: W'(AW), W'(QW); residual of Ã.
            solve = weights
                * ((horizon * c.D * (double)order * ((6.0 * prompts) + (8.0 * order))) + DenseFlops(order, steered, horizon));
        }
        else if (solves && options.Cost == FitCost.Feature)
        {
            // In a sweep the thin factors are those of all weights, of which each has p×p numbers of its own.
            int p = Math.Min(horizon, options.MaxRank);
            if (!formed)
            {
                AddPass(Passes(p), pulled: true, fromHost: true);
            }

            for (int k = 1; k <= horizon; k++)
            {
                int rank = weights > 1 ? Math.Min(k, c.D) : Math.Min(k, p);
                gains += 8.0 * rank * ((2 * c.D) + (weights > 1 ? weights * rank : 0));
                single += formed ? 0 : Rows(Passes(rank), prompts) * block;

                // Z'Z, W L^{-T}, and the residual's eight thin products; in a sweep Q R once, and p×p products for each of the weights.
                solve += weights == 1
                    ? c.D * rank * ((3.0 * rank) + 64)
                    : rank * ((4.0 * c.D * rank) + (weights * ((8.0 * rank * rank) + (64 * c.D))));
            }
        }
        else if (solves)
        {
            memory.Add(new PlannedMemory("riccati", DenseRiccati.SizeInBytes(c.D)));
            solve = weights * DenseFlops(c.D, steered, horizon);
        }

        if (options.HeldOut is not null)
        {
            // A_k, A_k − K_k, P_k and its factor of all steps, and, of a dense gain, K_k and the numbers of the law that applies it; what a method
            // keeps in any case is not counted again. The norms between any two steps take a product, another with a factor, and a triangular solve.
            bool thin = options.Order is not null || (options.Cost == FitCost.Feature && !allKept);
            int matrices = (allKept ? 3 : 4) + (thin || allKept ? 0 : 1);
            memory.Add(new PlannedMemory("certificate", ((8L * matrices) + (thin ? 0 : 12)) * horizon * c.D * c.D));
            if (options.Jacobians is null && !allKept)
            {
                AddJacobians(horizon);
                single += Formed(horizon);
            }

            activations += kept.Sum(Run);
            solve += weights * horizon * ((5.0 * (horizon - 1) / 2) + 7) * c.D * c.D * c.D;
        }

        if (gains > 0)
        {
            memory.Add(new PlannedMemory("gains", (long)gains));
        }

        PlannedStage[] stages = [new(FitStage.Activations, activations, 0), new(FitStage.Linearisation, single, 0), new(FitStage.Riccati, 0, solve)];
        return new FitPlan(memory, stages, solves && options.Order is null && options.Cost == FitCost.State ? 8L * horizon * c.D * c.D : 0);

        double Run(int tokens) => c.L * ((tokens * block) + (2.0 * c.H * c.E * tokens * (tokens + 1)));

        // FLOPs of whole Jacobians: D tangents of each prompt, and the prompt's own row in each pass.
        double Formed(int blocks) => blocks * (double)prompts * ((c.D * 2.0 * JacobianWeights(c)) + (Passes(c.D, blocks).Panels * block));

        PassPlan Passes(int directions, int blocks = 1) => PassPlan.Of(c, directions, callers, jacobianRows, blocks);

        // Sums under way beside the first. The contrast prompts are two lists, of which the first may end with a block that is not full.
        void AddSums(PassPlan passes)
        {
            int more = new SumNode(0, PromptBlocks.CountOf(prompts) + (calibration is null ? 1 : 0)).Depth - 1;
            if (more > 0)
            {
                memory.Add(new PlannedMemory("sums", 8L * c.D * more * Enumerable.Range(0, passes.Lanes).Sum(lane => (long)passes.Largest(lane))));
            }
        }

        // The solver counts one of the Jacobians.
        void AddJacobians(int blocks)
        {
            var passes = Passes(c.D, blocks);
            AddPass(passes, pulled: false, fromHost: false);
            if (passes.Blocks > 1)
            {
                Add(new PlannedMemory("jacobians", 8L * c.D * c.D * (passes.Blocks - 1)));
            }
        }

        void AddPass(PassPlan passes, bool pulled, bool fromHost)
        {
            foreach (var buffer in Buffers(c, passes, Passes(1), prompts, pulled, fromHost))
            {
                Add(buffer);
            }
        }

        // Buffers grow to what the largest pass needs.
        void Add(PlannedMemory buffer)
        {
            int at = memory.FindIndex(m => m.Name == buffer.Name);
            if (at < 0)
            {
                memory.Add(buffer);
            }
            else
            {
                memory[at] = buffer with { SizeInBytes = Math.Max(memory[at].SizeInBytes, buffer.SizeInBytes) };
            }
        }
    }

    /// <summary>Number of weights in the linear maps of one block.</summary>
    public static double BlockWeights(ModelConfig c) => ((double)(c.H + (2 * c.G)) * c.E * c.D) + ((double)c.H * c.E * c.D) + (3.0 * c.F * c.D);

    /// <summary>
    /// Number of weights that a tangent of a whole Jacobian is multiplied by in one block: queries, keys and values of unit vectors are W's columns
    /// and take no product.
    /// </summary>
    internal static double JacobianWeights(ModelConfig c) => BlockWeights(c) - ((double)(c.H + (2 * c.G)) * c.E * c.D);

    /// <summary>The buffers of the largest pass of every lane: value rows, tangents or cotangents, and their packed copies.</summary>
    private static IEnumerable<PlannedMemory> Buffers(ModelConfig c, PassPlan plan, PassPlan last, int prompts, bool pulled, bool fromHost)
    {
        int values = Math.Min(prompts, plan.Prompts);
        long rows = 0, cotangents = 0, staged = 0, packed = 0;
        long widest = Math.Max(c.D, Math.Max(c.F, c.H * c.E));
        for (int lane = 0; lane < plan.Lanes; lane++)
        {
            int p = plan.Largest(lane);
            int taken = pulled ? values : values * (p + 1);

            // The final passes push one column, for as many prompts at a time as fit.
            rows += lane > 0 ? taken : Activations.CapacityFor(2 * Math.Min(prompts, last.Prompts), taken);
            cotangents += pulled ? values * (long)p : 0;
            staged += fromHost ? Math.Max(p, values) : 0;
            packed += 4 * widest * Math.Max(taken, values * p * (pulled && values * p <= CpuLinear.AddedRows ? CpuLinear.BlocksAtOnce : 1));
        }

        long row = Activations.RowSizeInBytes(c);
        yield return new PlannedMemory("activations", plan.Lanes * values * row);

        // Directions from the host are staged in float32 on the host; the gathered results are float64.
        yield return new PlannedMemory("panels", ((rows - (plan.Lanes * values)) * row)
            + (fromHost ? c.D * ((4 * staged) + (8L * plan.Directions)) : 0));
        if (pulled)
        {
            yield return new PlannedMemory("cotangents", cotangents * Cotangents.RowSizeInBytes(c));
        }

        // On the CPU: the packed rows of one linear map, or both packed factors of a product.
        yield return new PlannedMemory("scratch", Math.Max(packed, 2 * 8L * CpuProduct.PackedInNumbers(c.D)));
    }

    /// <summary>Number of rows that pass through a block: the directions of every prompt, and the prompt's own row in each pass.</summary>
    private static double Rows(PassPlan plan, int prompts) => (double)prompts * (plan.Directions + plan.Panels);

    // Products of a step in units of D³ FLOPs. With an input: S A 2, Cholesky 1/3, two triangular solves 2, A'K 2; and eight products with four
    // probes. Without an input: S A 2, A'(S A) 2; and four products with four probes.
    private static double DenseFlops(double d, int steered, int horizon) =>
        (steered * (((6 + (1.0 / 3)) * d * d * d) + (8 * 2 * 4 * d * d))) + ((horizon - steered) * ((4 * d * d * d) + (4 * 2 * 4 * d * d)));
}
