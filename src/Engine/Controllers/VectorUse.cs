using Tiller.Features;
using Tiller.Law;

namespace Tiller.Controllers;

/// <summary>What is done with a direction.</summary>
public enum VectorOperation
{
    /// <summary>λ times the direction is added, whatever the state is.</summary>
    Add,

    /// <summary>The state's projection on it is removed; λ is the share.</summary>
    Ablate,
}

/// <summary>
/// What is done with the directions of a file and where, which the formats for them do not say: direction n is used at block n +
/// <paramref name="Offset"/>.
/// </summary>
/// <param name="Operation">What is done.</param>
/// <param name="Hook">Whether it is done to what enters the block or to what leaves it.</param>
/// <param name="Offset">What is added to a direction's number.</param>
public sealed record VectorUse(VectorOperation Operation, Hook Hook = Hook.Output, int Offset = 0)
{
    /// <summary>As llama.cpp uses a control vector: direction n is added to what leaves block n.</summary>
    public static VectorUse LlamaCpp { get; } = new(VectorOperation.Add);

    /// <summary>As IBM's activation-steering uses a steering vector: direction n is added to what enters block n.</summary>
    public static VectorUse ActivationSteering { get; } = new(VectorOperation.Add, Hook.Input);

    /// <inheritdoc/>
    public override string ToString() => $"{Operation} at the block's {Hook}, offset {Offset}".ToLowerInvariant();

    /// <summary>The method that uses directions so.</summary>
    /// <param name="directions">By number, each // (D).</param>
    /// <param name="layers">L.</param>
    /// <param name="width">D.</param>
    /// <param name="blocks">Blocks whose directions are used; null for all.</param>
    /// <exception cref="ControllerException">A direction is of no block of the model, or nothing is left to do.</exception>
    internal SteeringMethod ToMethod(IReadOnlyDictionary<int, float[]> directions, int layers, int width, LayerSet? blocks)
    {
        float[][] rows = [.. Enumerable.Range(0, layers + 1).Select(_ => new float[width])];
        foreach (var (number, direction) in directions)
        {
            int block = number + Offset;
            if (block < 0 || block >= layers)
            {
                throw new ControllerException(
                    ControllerFault.ModelMismatch,
                    $"The file has a direction {number}, which is of block {block}; the model has blocks 0-{layers - 1}.");
            }

            if (blocks?.Contains(block) == false)
            {
                continue;
            }

            // What enters block k leaves block k − 1; an addition reads nothing, so that it is the same there.
            int row = Operation == VectorOperation.Ablate || Hook == Hook.Input ? block : block + 1;
            if (Operation == VectorOperation.Add && row == 0)
            {
                throw new ControllerException(
                    ControllerFault.Range,
                    "The file adds to what enters block 0, the embedding, where no method adds: choose blocks from 1 on.");
            }

            if (!float.IsFinite((float)Math.Sqrt(Feature.Dot(direction, direction))))
            {
                throw new ControllerException(ControllerFault.NonFinite, $"The length of the file's direction {number} does not fit in float32.")
                {
                    Layer = block,
                };
            }

            rows[row] = direction;
        }

        var feature = Feature.FromDifference(rows);
        SteeringMethod method = Operation == VectorOperation.Add ? new OpenLoopAddition(feature) : new Ablation(feature, hook: Hook);
        return method.Idle is { } reason
            ? throw new ControllerException(ControllerFault.Idle, $"The file's directions do nothing, as {reason}.")
            : method;
    }
}
