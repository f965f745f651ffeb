using MathNet.Numerics.LinearAlgebra;

namespace Tiller.Synthesis;

// Sign convention: u = K e, where e is the displacement that the state lacks. K is (D, D), stored in the form in which its solver finds it.

/// <summary>The gain K_k of one layer, applied to vectors. A controller needs only w_k = K_k v_k.</summary>
public abstract class Gain
{
    private protected Gain(int outputs, int inputs)
    {
        Outputs = outputs;
        Inputs = inputs;
    }

    /// <summary>Length of K v: D.</summary>
    public int Outputs { get; }

    /// <summary>Length of v: D.</summary>
    public int Inputs { get; }

    /// <summary>Computes K v.</summary>
    /// <param name="v">Any vector // (D).</param>
    /// <returns>K v // (D).</returns>
    /// <exception cref="ArgumentException">v has another length.</exception>
    public double[] Apply(ReadOnlySpan<double> v)
    {
        if (v.Length != Inputs)
        {
            throw new ArgumentException($"The gain takes vectors of {Inputs} numbers, got {v.Length}.", nameof(v));
        }

        return Multiply(Vector<double>.Build.DenseOfArray(v.ToArray())).ToArray();
    }

    /// <summary>Computes K v for a float32 vector, the type of a feature's directions.</summary>
    /// <param name="v">Any vector // (D).</param>
    /// <returns>K v // (D).</returns>
    /// <exception cref="ArgumentException">v has another length.</exception>
    public double[] Apply(ReadOnlySpan<float> v)
    {
        double[] wide = new double[v.Length];
        for (int i = 0; i < wide.Length; i++)
        {
            wide[i] = v[i];
        }

        return Apply(wide);
    }

    /// <summary>Y and V with K = Y V' // (D, p), (D, p). p depends on the form in which K is stored.</summary>
    internal abstract (Matrix<double> Left, Matrix<double> Right) Factors();

    private protected abstract Vector<double> Multiply(Vector<double> v);
}

/// <summary>K = 0, the gain of a layer without an input.</summary>
public sealed class ZeroGain : Gain
{
    internal ZeroGain(int width)
        : base(width, width)
    {
    }

    internal override (Matrix<double> Left, Matrix<double> Right) Factors() =>
        (Matrix<double>.Build.Dense(Outputs, 1), Matrix<double>.Build.Dense(Inputs, 1));

    private protected override Vector<double> Multiply(Vector<double> v) => Vector<double>.Build.Dense(Outputs);
}

/// <summary>K stored as a matrix (docs/math.md §3).</summary>
public sealed class DenseGain : Gain
{
    /// <summary>Wraps a matrix.</summary>
    /// <param name="k">K // (D, D); not copied.</param>
    public DenseGain(Matrix<double> k)
        : base(k.RowCount, k.ColumnCount)
    {
        K = k;
    }

    /// <summary>K // (D, D).</summary>
    public Matrix<double> K { get; }

    internal override (Matrix<double> Left, Matrix<double> Right) Factors() => (K, Matrix<double>.Build.DenseIdentity(Inputs));

    private protected override Vector<double> Multiply(Vector<double> v) => K * v;
}

/// <summary>K = Z (rI + Z'Z)^{-1} W', stored as these factors (docs/math.md §4).</summary>
public sealed class FactoredGain : Gain
{
    private readonly SpdFactor _inner;

    internal FactoredGain(Matrix<double> z, SpdFactor inner, Matrix<double> w)
        : base(z.RowCount, w.RowCount)
    {
        Z = z;
        _inner = inner;
        W = w;
    }

    /// <summary>Z, the factor of S_{k+1} = ZZ' // (D, p).</summary>
    public Matrix<double> Z { get; }

    /// <summary>W = A_k' Z // (D, p).</summary>
    public Matrix<double> W { get; }

    // Y = Z (rI + Z'Z)^{-1}; the inner matrix is symmetric.
    internal override (Matrix<double> Left, Matrix<double> Right) Factors() => (_inner.Solve(Z.Transpose()).Transpose(), W);

    private protected override Vector<double> Multiply(Vector<double> v)
        => Z * _inner.Solve(W.TransposeThisAndMultiply(v).ToColumnMatrix()).Column(0);
}

/// <summary>
/// K = Y M V', stored as these factors. Of a sweep over weights, which share Y and V: Y spans the factor of S_{k+1}, V = A_k' Y, and M alone depends
/// on the weights (docs/math.md §4). Of a reduced solution: Y = W_{k+1} and V = W_k are the bases, and M = K̃ (docs/math.md §5).
/// </summary>
public sealed class ThinGain : Gain
{
    internal ThinGain(Matrix<double> left, Matrix<double> inner, Matrix<double> right)
        : base(left.RowCount, right.RowCount)
    {
        Left = left;
        Inner = inner;
        Right = right;
    }

    /// <summary>Y, orthonormal columns // (D, p).</summary>
    public Matrix<double> Left { get; }

    /// <summary>M // (p, p).</summary>
    public Matrix<double> Inner { get; }

    /// <summary>V // (D, p).</summary>
    public Matrix<double> Right { get; }

    internal override (Matrix<double> Left, Matrix<double> Right) Factors() => (Left * Inner, Right);

    private protected override Vector<double> Multiply(Vector<double> v) => Left * (Inner * Right.TransposeThisAndMultiply(v));
}
