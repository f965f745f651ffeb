using System.Numerics.Tensors;
using MathNet.Numerics.LinearAlgebra;

namespace Tiller.Synthesis;

/// <summary>
/// The cost of inputs u_0..u_{N-1} of δx_{k+1} = A_k δx_k + u_k, and half its gradient: r u_k + p_{k+1}, with the costates p_N = q_f δx_N and
/// p_k = q δx_k + A_k' p_{k+1}. All inputs are in one array // (N D).
/// </summary>
internal sealed class PlannedPlant
{
    private readonly double[][] _a;
    private readonly double[] _states;
    private readonly double[] _costate;
    private readonly double[] _pulled;

    public PlannedPlant(IReadOnlyList<Matrix<double>> a, LqrWeights weights)
    {
        (_a, Weights, Width) = ([.. a.Select(DenseAlgebra.Numbers)], weights, a[0].RowCount);
        _states = new double[(a.Count + 1) * Width];
        _costate = new double[Width];
        _pulled = new double[Width];
    }

    /// <summary>N.</summary>
    public int Steps => _a.Length;

    /// <summary>D.</summary>
    public int Width { get; }

    /// <summary>q, r and q_f.</summary>
    public LqrWeights Weights { get; }

    /// <summary>Computes half the gradient at u, for the first state <paramref name="start"/>.</summary>
    public void Gradient(ReadOnlySpan<double> u, ReadOnlySpan<double> start, Span<double> gradient)
    {
        Roll(u, start);
        TensorPrimitives.Multiply(State(Steps), Weights.Qf, _costate);
        for (int k = Steps - 1; k >= 0; k--)
        {
            TensorPrimitives.MultiplyAdd(u.Slice(k * Width, Width), Weights.R, _costate, gradient.Slice(k * Width, Width));
            SquareProduct.Pull<double>(_a[k], _costate, _pulled);
            TensorPrimitives.MultiplyAdd(State(k), Weights.Q, _pulled, _costate);
        }
    }

    /// <summary>The cost of u.</summary>
    public double Cost(ReadOnlySpan<double> u, ReadOnlySpan<double> start)
    {
        Roll(u, start);
        double cost = Weights.R * TensorPrimitives.SumOfSquares(u);
        for (int k = 0; k <= Steps; k++)
        {
            cost += (k == Steps ? Weights.Qf : Weights.Q) * TensorPrimitives.SumOfSquares<double>(State(k));
        }

        return cost;
    }

    /// <summary>A_k x.</summary>
    public double[] Push(int k, double[] x)
    {
        double[] pushed = new double[Width];
        SquareProduct.Push<double>(_a[k], x, pushed);
        return pushed;
    }

    private void Roll(ReadOnlySpan<double> u, ReadOnlySpan<double> start)
    {
        start.CopyTo(State(0));
        for (int k = 0; k < Steps; k++)
        {
            u.Slice(k * Width, Width).CopyTo(State(k + 1));
            SquareProduct.Push<double>(_a[k], _states.AsMemory(k * Width, Width), _states.AsMemory((k + 1) * Width, Width));
        }
    }

    private Span<double> State(int k) => _states.AsSpan(k * Width, Width);
}
