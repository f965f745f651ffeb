using MathNet.Numerics.LinearAlgebra;
using MathNet.Numerics.LinearAlgebra.Double;
using Tiller.Interop;

namespace Tiller.Tests.Interop;

/// <summary>cuBLAS, cuBLASLt and cuSOLVER through the bindings against MathNet, which is column-major as they are.</summary>
public class CudaBlasTests : CudaTest
{
    private const CublasOperation AsStored = CublasOperation.NonTranspose;

    [TestCase(CublasOperation.NonTranspose, CublasOperation.NonTranspose)]
    [TestCase(CublasOperation.Transpose, CublasOperation.NonTranspose)]
    [TestCase(CublasOperation.NonTranspose, CublasOperation.Transpose)]
    [TestCase(CublasOperation.Transpose, CublasOperation.Transpose)]
    public void ProductsMatchMathNet(CublasOperation transposeA, CublasOperation transposeB)
    {
        const int M = 7, N = 5, K = 9;
        using var context = new PrimaryContext();
        using var stream = new CudaStream(context);
        using var blas = new CudaBlas(context, stream);
        using var lt = new CudaBlasLt(context);
        bool turnA = transposeA == CublasOperation.Transpose, turnB = transposeB == CublasOperation.Transpose;
        Matrix<double> a = turnA ? Random(K, M, 1) : Random(M, K, 1), b = turnB ? Random(N, K, 2) : Random(K, N, 2), c = Random(M, N, 3);
        Matrix<double> expected = 2 * (turnA ? a.Transpose() : a) * (turnB ? b.Transpose() : b) - 0.5 * c;

        using CudaDeviceVariable<double> da = Upload(context, a), db = Upload(context, b), dc = Upload(context, c), dd = Upload(context, c);
        blas.Dgemm(transposeA, transposeB, M, N, K, 2, da.DevicePointer, a.RowCount, db.DevicePointer, b.RowCount, -0.5, dc.DevicePointer, M);
        lt.Matmul(transposeA, transposeB, M, N, K, 2, da.DevicePointer, a.RowCount, db.DevicePointer, b.RowCount, CudaDataType.R64F, -0.5,
            dd.DevicePointer, M, CudaDataType.R64F, stream);
        stream.Synchronize();
        Assert.That((Download(dc, M, N) - expected).L2Norm(), Is.LessThan(1e-13));
        Assert.That((Download(dd, M, N) - expected).L2Norm(), Is.LessThan(1e-13));
    }

    [Test]
    public void Bfloat16ProductsKeepFloatSumsAndShapesAreRemembered()
    {
        const int M = 33, N = 3, K = 65;
        using var context = new PrimaryContext();
        using var stream = new CudaStream(context);
        using var lt = new CudaBlasLt(context);
        // Small integers are exact in bfloat16, and so are their sums in float.
        Matrix<double> a = DenseMatrix.Create(M, K, (i, j) => (i * 7 + j * 3) % 11 - 5), b = DenseMatrix.Create(K, N, (i, j) => (i + j * 5) % 7 - 3);
        using CudaDeviceVariable<ushort> da = UploadBfloat16(context, a), db = UploadBfloat16(context, b);
        using var c = new CudaDeviceVariable<float>(context, M * N);
        float[] values = new float[M * N], twice = new float[M * N];
        foreach (float[] result in (float[][])[values, twice])
        {
            // The first time into what was never written, the second on top of it.
            lt.Matmul(AsStored, AsStored, M, N, K, 1, da.DevicePointer, M, db.DevicePointer, K, CudaDataType.R16BF, result == values
                ? 0
                : 1, c.DevicePointer, M,
                CudaDataType.R32F, stream);
            stream.Synchronize();
            c.CopyToHost(result);
        }

        float[] expected = [.. (a * b).ToColumnMajorArray().Select(v => (float)v)];
        Assert.That(values, Is.EqualTo(expected));
        Assert.That(twice, Is.EqualTo(expected.Select(v => 2 * v)));
        Assert.That(lt.PlanCount, Is.EqualTo(1));
    }

    [Test]
    public void MatricesStartAtMultiplesOfSixteenBytes()
    {
        using var context = new PrimaryContext();
        using var stream = new CudaStream(context);
        using var lt = new CudaBlasLt(context);
        using var memory = new CudaDeviceVariable<double>(context, 64);
        nint at = memory.DevicePointer;
        Product(at + 16, at + 32, at + 48); // 256 is what the library takes for granted
        Assert.That(() => Product(at + 8, at + 32, at + 48), Throws.ArgumentException.With.Message.Contains("16 bytes").And.Message.Contains("'a'"));
        Assert.That(() => Product(at + 16, at + 40, at + 48), Throws.ArgumentException.With.Message.Contains("'b'"));
        Assert.That(() => Product(at + 16, at + 32, at + 56), Throws.ArgumentException.With.Message.Contains("'c'"));

        void Product(nint a, nint b, nint c)
        {
            lt.Matmul(AsStored, AsStored, 1, 1, 1, 1, a, 1, b, 1, CudaDataType.R64F, 0, c, 1, CudaDataType.R64F, stream);
            stream.Synchronize();
        }
    }

    // Of 2^25 and ones below it a tensor core keeps nothing: they are cut off 24 bits behind its first one.
    [Test]
    public void TensorCoresCutOffWhatTheyAdd()
    {
        HostCuda.Require(); // of its model: how GPUs do it, they do not promise
        const int K = 48;
        using var context = new PrimaryContext();
        using var stream = new CudaStream(context);
        using var lt = new CudaBlasLt(context);
        using CudaDeviceVariable<ushort> a = UploadBfloat16(context, DenseMatrix.Create(1, K, (_, k) => k == 0 ? 1 << 25 : k < 16 ? 0 : 1));
        using CudaDeviceVariable<ushort> b = UploadBfloat16(context, DenseMatrix.Create(K, 1, 1));
        using var c = new CudaDeviceVariable<float>(context, 4);
        lt.Matmul(AsStored, AsStored, 1, 1, K, 1, a.DevicePointer, 1, b.DevicePointer, K, CudaDataType.R16BF, 0, c.DevicePointer, 1, CudaDataType.R32F, stream);
        stream.Synchronize();
        float[] sum = new float[4];
        c.CopyToHost(sum);
        Assert.That(sum[0], Is.EqualTo((1 << 25) + 32), "sixteen at a time are kept: they make 16, a multiple of the last place");
        using CudaDeviceVariable<ushort> few = UploadBfloat16(context, DenseMatrix.Create(1, K, (_, k) => k == 0 ? 1 << 25 : k % 16 < 3 && k >= 16 ? 1 : 0));
        lt.Matmul(AsStored, AsStored, 1, 1, K, 1, few.DevicePointer, 1, b.DevicePointer, K, CudaDataType.R16BF, 0, c.DevicePointer, 1, CudaDataType.R32F, stream);
        stream.Synchronize();
        c.CopyToHost(sum);
        Assert.That(sum[0], Is.EqualTo(1 << 25), "three are less than the last place, 4, and are cut off, twice");
    }

    [Test]
    public void AProductCanBeCaptured()
    {
        using var context = new PrimaryContext();
        using var stream = new CudaStream(context);
        using var blas = new CudaBlas(context, stream);
        using CudaDeviceVariable<double> a = Upload(context, DenseMatrix.CreateIdentity(4)), c = Upload(context, DenseMatrix.Create(4, 4, 0));
        using CudaGraph graph = stream.Capture(() =>
            blas.Dgemm(AsStored, AsStored, 4, 4, 4, 1, a.DevicePointer, 4, a.DevicePointer, 4, 1, c.DevicePointer, 4));
        using CudaGraphExec exec = graph.Instantiate();
        exec.Launch(stream);
        exec.Launch(stream);
        stream.Synchronize();
        Assert.That(Download(c, 4, 4).Trace(), Is.EqualTo(8));
    }

    [Test]
    public void AMatrixThatLeavesItsMemoryEndsTheDevice()
    {
        HostCuda.Require();
        using var context = new PrimaryContext();
        using var stream = new CudaStream(context);
        using var blas = new CudaBlas(context, stream);
        using CudaDeviceVariable<double> a = Upload(context, Random(4, 4, 1));
        Assert.That(() => blas.Dgemm(AsStored, AsStored, 4, 5, 4, 1, a.DevicePointer, 4, a.DevicePointer, 4, 0, a.DevicePointer, 4),
            Throws.TypeOf<CudaDeviceLostException>().With.Message.Contains("cublasDgemm_v2").And.Message.Contains("m 4, n 5, k 4"));
    }

    [TestCase(1)]
    [TestCase(33)]
    [TestCase(127)]
    public void CholeskySolvesAsMathNetDoes(int n)
    {
        using var context = new PrimaryContext();
        using var stream = new CudaStream(context);
        using var solver = new CudaSolveDense(context, stream);
        Matrix<double> g = Random(n, n, 4), s = g * g.Transpose() + n * DenseMatrix.CreateIdentity(n), b = Random(n, 3, 5);
        using CudaDeviceVariable<double> ds = Upload(context, s), db = Upload(context, b);
        Assert.That(solver.Potrf(CublasFillMode.Lower, n, CudaDataType.R64F, ds.DevicePointer, n), Is.Zero);
        Assert.That(solver.Potrs(CublasFillMode.Lower, n, 3, CudaDataType.R64F, ds.DevicePointer, n, db.DevicePointer, n), Is.Zero);
        var cholesky = s.Cholesky();
        Assert.That((Download(ds, n, n).LowerTriangle() - cholesky.Factor).L2Norm(), Is.LessThan(1e-11 * n));
        Assert.That((Download(db, n, 3) - cholesky.Solve(b)).L2Norm(), Is.LessThan(1e-12));
    }

    [Test]
    public void AnIndefiniteMatrixNamesItsMinor()
    {
        using var context = new PrimaryContext();
        using var stream = new CudaStream(context);
        using var solver = new CudaSolveDense(context, stream);
        using CudaDeviceVariable<double> s = Upload(context, DenseMatrix.OfDiagonalArray([1.0, 2.0, -3.0, 4.0]));
        Assert.That(solver.Potrf(CublasFillMode.Lower, 4, CudaDataType.R64F, s.DevicePointer, 4), Is.EqualTo(3));
    }

    private static DenseMatrix Random(int rows, int columns, int seed)
    {
        var random = new Random(seed);
        return DenseMatrix.Create(rows, columns, (_, _) => 2 * random.NextDouble() - 1);
    }

    private static CudaDeviceVariable<double> Upload(PrimaryContext context, Matrix<double> x)
    {
        var device = new CudaDeviceVariable<double>(context, x.RowCount * x.ColumnCount);
        device.CopyToDevice(x.ToColumnMajorArray());
        return device;
    }

    private static CudaDeviceVariable<ushort> UploadBfloat16(PrimaryContext context, Matrix<double> x)
    {
        var device = new CudaDeviceVariable<ushort>(context, x.RowCount * x.ColumnCount);
        device.CopyToDevice([.. x.ToColumnMajorArray().Select(v => (ushort)(BitConverter.SingleToUInt32Bits((float)v) >> 16))]);
        return device;
    }

    private static DenseMatrix Download(CudaDeviceVariable<double> device, int rows, int columns)
    {
        double[] values = new double[rows * columns];
        device.CopyToHost(values);
        return new DenseMatrix(rows, columns, values);
    }
}
