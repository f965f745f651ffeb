using System.Diagnostics;
using System.Net.Sockets;
using Tiller.Checkpoint;
using static Tiller.Tests.Checkpoint.SafetensorsBytes;

namespace Tiller.Tests.Checkpoint;

[TestFixture]
internal sealed class SafetensorsFileTests
{
    private TemporaryFolder _folder = null!;

    [SetUp]
    public void SetUp() => _folder = new TemporaryFolder();

    [TearDown]
    public void TearDown() => _folder.Dispose();

    [TestCase("missing")]
    [TestCase("directory")]
    [TestCase("fifo")]
    [TestCase("socket")]
    [TestCase("device")]
    [TestCase("nul")]
    [TestCase("loop")]
    [TestCase("link to fifo")]
    public void Row59_what_is_no_file_is_an_error_and_not_waited_for(string kind)
    {
        string path = _folder["x.safetensors"];
        using var socket = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        switch (kind)
        {
            case "directory":
                Directory.CreateDirectory(path);
                break;
            case "fifo":
                MakeFifo(path);
                break;
            case "socket":
                socket.Bind(new UnixDomainSocketEndPoint(path));
                break;
            case "device":
                path = "/dev/zero";
                break;
            case "nul":
                path += "\0";
                break;
            case "loop":
                File.CreateSymbolicLink(path, path);
                break;
            case "link to fifo":
                MakeFifo(_folder["pipe"]);
                File.CreateSymbolicLink(path, "pipe");
                break;
        }

        var error = Patience.Returns(() => Assert.Throws<SafetensorsException>(() => SafetensorsFile.Open(path)));

        Assert.That(error!.Error, Is.EqualTo(SafetensorsError.InputOutput), error.Message);
    }

    [Test]
    [System.Runtime.Versioning.UnsupportedOSPlatform("windows")]
    public void Row59_no_permission()
    {
        Assume.That(Environment.IsPrivilegedProcess, Is.False, "root may read everything");
        string path = _folder.Write("x.safetensors", One("F32", "[2]", "[0,8]", 8));
        File.SetUnixFileMode(path, UnixFileMode.None);

        Assert.That(() => SafetensorsFile.Open(path), Fails(SafetensorsError.InputOutput));
    }

    [Test]
    public void Row56_values_are_not_checked_and_kept_bit_for_bit()
    {
        byte[] bytes = One("F32", "[4]", "[0,16]", 16);
        uint[] values = [0x7FC00001, 0xFF800000, 0x00000001, 0x80000000];
        Buffer.BlockCopy(values, 0, bytes, bytes.Length - 16, 16);
        using SafetensorsFile file = SafetensorsFile.Open(_folder.Write("x.safetensors", bytes));

        Assert.That(file.ReadFloat32(file.Find("t")).Select(BitConverter.SingleToUInt32Bits), Is.EqualTo(values));
    }

    [Test]
    public void Row55_unaligned_tensor_is_read()
    {
        byte[] bytes = Whole("""{"a":{"dtype":"BOOL","shape":[1],"data_offsets":[0,1]},"b":{"dtype":"F64","shape":[1],"data_offsets":[1,9]}} """, 9);
        BitConverter.TryWriteBytes(bytes.AsSpan(bytes.Length - 8), 1.25);
        using SafetensorsFile file = SafetensorsFile.Open(_folder.Write("x.safetensors", bytes));

        Assert.That(file.ReadFloat64(file.Find("b")), Is.EqualTo(new[] { 1.25 }));
        Assert.That(file.ReadFloat32(file.Find("b")), Is.EqualTo(new[] { 1.25f }));
    }

    [TestCase(TensorType.F32)]
    [TestCase(TensorType.F16)]
    [TestCase(TensorType.BF16)]
    public void Row54_every_float_is_widened_exactly(TensorType type)
    {
        (byte[] data, float[] expected) = type switch
        {
            TensorType.F16 => (AllShorts(), Enumerable.Range(0, 65536).Select(i => (float)BitConverter.UInt16BitsToHalf((ushort)i)).ToArray()),
            TensorType.BF16 => (AllShorts(), Enumerable.Range(0, 65536).Select(i => BitConverter.UInt32BitsToSingle((uint)i << 16)).ToArray()),
            _ => (BitConverter.GetBytes(0.1f), new[] { 0.1f }),
        };
        string path = _folder["x.safetensors"];
        SafetensorsWriter.Write(path, new Dictionary<string, string>(), [new TensorData("t", type, [expected.Length], data)]);
        using SafetensorsFile file = SafetensorsFile.Open(path);

        Assert.That(file.ReadFloat32(file.Find("t")), Is.EqualTo(expected));
        Assert.That(file.ReadFloat64(file.Find("t")), Is.EqualTo(Array.ConvertAll(expected, x => (double)x)));
    }

    [TestCaseSource(nameof(NotFloats))]
    public void Row34_other_types_are_refused_on_load(TensorType type)
    {
        int size = type.BitsPerElement();
        using SafetensorsFile file = SafetensorsFile.Open(_folder.Write("x.safetensors", One(type.SpecName(), "[8]", $"[0,{size}]", size)));

        Assert.That(file.Find("t").ElementCount, Is.EqualTo(8));
        Assert.That(() => file.ReadFloat32(file.Find("t")), Fails(SafetensorsError.UnsupportedType));
        Assert.That(() => file.ReadFloat64(file.Find("t")), Fails(SafetensorsError.UnsupportedType));
    }

    [Test]
    public void Row57_offsets_past_4_GiB()
    {
        const long Big = 5L << 30;
        string path = _folder["x.safetensors"];
        byte[] head = Whole($$"""{"big":{{Entry("U8", $"[{Big}]", $"[0,{Big}]")}},"t":{{Entry("F32", "[1]", $"[{Big},{Big + 4}]")}}}""");
        WriteSparse(path, head, head.Length + Big, BitConverter.GetBytes(2.5f));
        using SafetensorsFile file = SafetensorsFile.Open(path);
        var last = new byte[3];
        file.Read(file.Find("big"), Big - 3, last);

        Assert.That(file.ReadFloat32(file.Find("t")), Is.EqualTo(new[] { 2.5f }));
        Assert.That(last, Is.EqualTo(new byte[3]));
        Assert.That(file.LengthInBytes, Is.EqualTo(head.Length + Big + 4));
    }

    [Test]
    public void Row58_one_TB_is_opened_without_being_read_or_allocated()
    {
        const long Big = 1L << 40;
        string path = _folder["x.safetensors"];
        byte[] head = Whole($$"""{"t":{{Entry("F32", $"[{Big / 4}]", $"[0,{Big}]")}}}""");
        WriteSparse(path, head, head.Length + Big, []);

        // To read it would take a second for every few gigabytes.
        var (file, allocated) = Patience.Returns(() =>
        {
            long before = GC.GetAllocatedBytesForCurrentThread();
            SafetensorsFile opened = SafetensorsFile.Open(path);
            return (opened, GC.GetAllocatedBytesForCurrentThread() - before);
        });
        using (file)
        {
            Assert.That(allocated, Is.LessThan(1 << 20));
            Assert.That(() => file.ReadFloat32(file.Find("t")), Fails(SafetensorsError.LimitExceeded));
        }
    }

    [Test]
    public void Row60_truncated_after_opening()
    {
        byte[] bytes = One("F32", "[1000]", "[0,4000]", 4000);
        string path = _folder.Write("x.safetensors", bytes);
        using SafetensorsFile file = SafetensorsFile.Open(path);
        using (var stream = new FileStream(path, FileMode.Open, FileAccess.Write, FileShare.ReadWrite))
        {
            stream.SetLength(bytes.Length - 1000);
        }

        var error = Assert.Throws<SafetensorsException>(() => file.ReadFloat32(file.Find("t")));

        Assert.That(error!.Error, Is.EqualTo(SafetensorsError.InputOutput));
        Assert.That(error.Tensor, Is.EqualTo("t"));
        Assert.That(error.Offset, Is.EqualTo(bytes.Length - 1000));
    }

    [TestCase("edited")]
    [TestCase("grown")]
    [TestCase("replaced")]
    [TestCase("deleted")]
    public void Row61_changed_after_opening(string how)
    {
        byte[] bytes = One("F32", "[2]", "[0,8]", 8);
        string path = _folder.Write("x.safetensors", bytes);
        File.SetLastWriteTimeUtc(path, DateTime.UnixEpoch);
        using SafetensorsFile file = SafetensorsFile.Open(path);
        Assert.That(() => file.ReadFloat32(file.Find("t")), Throws.Nothing);
        switch (how)
        {
            case "edited":
                File.SetLastWriteTimeUtc(path, DateTime.UnixEpoch.AddTicks(10));
                break;
            case "grown":
                File.AppendAllText(path, "x");
                File.SetLastWriteTimeUtc(path, DateTime.UnixEpoch);
                break;
            case "replaced":
                string other = _folder.Write("y.safetensors", bytes);
                File.SetLastWriteTimeUtc(other, DateTime.UnixEpoch);
                File.Move(other, path, overwrite: true);
                break;
            case "deleted":
                File.Delete(path);
                break;
        }

        Assert.That(() => file.ReadFloat32(file.Find("t")), Fails(SafetensorsError.InputOutput));
    }

    [Test]
    public void Row62_unknown_tensor_names_a_similar_one()
    {
        using SafetensorsFile file =
            SafetensorsFile.Open(_folder.Write("x.safetensors",
                Whole("""{"model.norm.weight":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}""", 1)));

        var error = Assert.Throws<SafetensorsException>(() => file.Find("model.norm.weigth"));

        Assert.That(error!.Error, Is.EqualTo(SafetensorsError.TensorNotFound));
        Assert.That(error.Message, Does.Contain("model.norm.weight\"?"));
        Assert.That(file.TryFind("x"), Is.Null);
    }

    [TestCase(-1, 1)]
    [TestCase(0, 9)]
    [TestCase(5, 4)]
    [TestCase(8, 1)]
    [TestCase(9, 0)]
    [TestCase(long.MaxValue, 1)]
    [TestCase(long.MinValue, 1)]
    public void Row62_slice_out_of_range(long offset, int length)
    {
        using SafetensorsFile file = SafetensorsFile.Open(_folder.Write("x.safetensors", One("F32", "[2]", "[0,8]", 8)));

        Assert.That(() => file.Read(file.Find("t"), offset, new byte[length]), Fails(SafetensorsError.SliceOutOfRange));
        Assert.That(() => file.Read(file.Find("t"), 8, []), Throws.Nothing);
    }

    [Test]
    public void A_tensor_of_another_file_is_refused()
    {
        string path = _folder.Write("x.safetensors", One("F32", "[2]", "[0,8]", 8));
        using SafetensorsFile one = SafetensorsFile.Open(path);
        using SafetensorsFile two = SafetensorsFile.Open(path);

        Assert.That(() => one.ReadFloat32(two.Find("t")), Fails(SafetensorsError.TensorNotFound));
    }

    [Test]
    public void Malformed_file_names_itself()
    {
        string path = _folder.Write("broken.safetensors", One("F32", "[2]", "[0,8]", 7));

        var error = Assert.Throws<SafetensorsException>(() => SafetensorsFile.Open(path));

        Assert.That(error!.Error, Is.EqualTo(SafetensorsError.IncompleteBuffer));
        Assert.That(error.Message, Does.Contain("broken.safetensors"));
    }

    private static NUnit.Framework.Constraints.IResolveConstraint Fails(SafetensorsError error)
        => Throws.TypeOf<SafetensorsException>().With.Property(nameof(SafetensorsException.Error)).EqualTo(error);

    private static IEnumerable<TensorType> NotFloats()
        => TensorTypes.All.Except([TensorType.F32, TensorType.F16, TensorType.BF16, TensorType.F64]);

    private static byte[] AllShorts()
    {
        var bytes = new byte[131072];
        Buffer.BlockCopy(Enumerable.Range(0, 65536).Select(i => (ushort)i).ToArray(), 0, bytes, 0, bytes.Length);
        return bytes;
    }

    private static void WriteSparse(string path, byte[] head, long tailAt, byte[] tail)
    {
        using var stream = new FileStream(path, FileMode.CreateNew);
        stream.Write(head);
        stream.SetLength(tailAt + tail.Length);
        stream.Position = tailAt;
        stream.Write(tail);
    }

    private static void MakeFifo(string path)
    {
        using Process process = Process.Start("mkfifo", [path]);
        process.WaitForExit();
        Assert.That(process.ExitCode, Is.Zero);
    }
}
