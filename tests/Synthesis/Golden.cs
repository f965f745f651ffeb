using MathNet.Numerics.LinearAlgebra;
using Tiller.Synthesis;
using Tiller.Tool;

namespace Tiller.Tests.Synthesis;

/// <summary>The numbers in a golden folder that control needs: q, r, qf, and tensors of golden.safetensors as float64.</summary>
internal sealed class Golden
{
    private readonly Dictionary<string, GoldenTensor> _tensors;

    public Golden(string folder)
    {
        using var golden = new GoldenFolder(folder);
        double Weight(string name) => golden.Golden!.Value.GetProperty(name).GetDouble();
        Weights = new LqrWeights(Weight("q"), Weight("r"), Weight("qf"));
        _tensors = golden.Tensors!.Tensors.ToDictionary(t => t.Name, t => golden.Tensor(t.Name)!, StringComparer.Ordinal);
    }

    public LqrWeights Weights { get; }

    public int[] Shape(string name) => _tensors[name].Shape;

    public double[] Values(string name) => _tensors[name].Values;

    /// <summary>The matrices of a (L, D, D) tensor.</summary>
    public Matrix<double>[] Matrices(string name)
    {
        var tensor = _tensors[name];
        return [.. Enumerable.Range(0, tensor.Shape[0])
            .Select(k => Matrix<double>.Build.DenseOfRowMajor(tensor.Shape[1], tensor.Shape[2], tensor[k].ToArray()))];
    }

    /// <summary>The rows of a (L + 1, D) tensor.</summary>
    public float[][] Rows(string name)
    {
        int width = Shape(name)[1];
        return [.. Values(name).Chunk(width).Select(row => Array.ConvertAll(row, x => (float)x))];
    }
}
