using Tiller.Checkpoint;

namespace Tiller.Tests.Checkpoint;

[TestFixture]
internal sealed class SafetensorsWriterTests
{
    private static readonly Dictionary<string, string> NoMetadata = [];

    private TemporaryFolder _folder = null!;

    [SetUp]
    public void SetUp() => _folder = new TemporaryFolder();

    [TearDown]
    public void TearDown() => _folder.Dispose();

    [Test]
    public void Round_trip_keeps_names_types_shapes_bytes_and_metadata()
    {
        var random = new Random(1);
        TensorData[] tensors = [.. TensorTypes.All.Select((type, i) =>
        {
            var data = new byte[type.BitsPerElement() * 3];
            random.NextBytes(data);
            return new TensorData($"t{i} \"\\\u0001é😀", type, i % 2 == 0 ? [3, 8] : [2, 1, 12], data);
        })];
        var metadata = new Dictionary<string, string> { ["z"] = "ü\n\"", ["a"] = "" };
        string path = _folder["x.safetensors"];

        SafetensorsWriter.Write(path, metadata, tensors);

        using SafetensorsFile file = SafetensorsFile.Open(path);
        Assert.That(file.Metadata, Is.EquivalentTo(metadata));
        Assert.That(file.Tensors, Has.Count.EqualTo(tensors.Length));
        foreach (TensorData tensor in tensors)
        {
            TensorInfo info = file.Find(tensor.Name);
            var bytes = new byte[info.SizeInBytes];
            file.Read(info, 0, bytes);
            Assert.That(info.Type, Is.EqualTo(tensor.Type));
            Assert.That(info.Shape, Is.EqualTo(tensor.Shape));
            Assert.That(info.ElementCount, Is.EqualTo(24));
            Assert.That(bytes, Is.EqualTo(tensor.Data.ToArray()));
        }
    }

    [Test]
    public void Layout_is_canonical_and_aligned()
    {
        string path = _folder["x.safetensors"];
        SafetensorsWriter.Write(path, NoMetadata,
        [
            new TensorData("b8", TensorType.U8, [3], new byte[3]), TensorData.FromFloat32("b32", [2], [1, 2]), TensorData.FromFloat32("a32", [], [3]),
            TensorData.FromFloat64("z64", [1], [4]), new TensorData("a16", TensorType.BF16, [1], new byte[2]),
        ]);

        using SafetensorsFile file = SafetensorsFile.Open(path);
        Assert.That(file.Tensors.Select(t => t.Name), Is.EqualTo(new[] { "z64", "a32", "b32", "a16", "b8" }));
        Assert.That(file.Header.LengthInBytes % 8, Is.Zero);
        foreach (TensorInfo tensor in file.Tensors)
        {
            Assert.That(tensor.Begin % Math.Max(1, tensor.Type.BitsPerElement() / 8), Is.Zero, tensor.Name);
        }

        Assert.That(file.ReadFloat32(file.Find("b32")), Is.EqualTo(new[] { 1f, 2f }));
        Assert.That(file.ReadFloat64(file.Find("z64")), Is.EqualTo(new[] { 4.0 }));
    }

    [TestCaseSource(nameof(Originals))]
    public void Rewriting_what_the_reference_wrote_gives_the_same_bytes(string path)
    {
        using SafetensorsFile file = SafetensorsFile.Open(path);
        TensorData[] tensors = [.. file.Tensors.Select(info =>
        {
            var data = new byte[info.SizeInBytes];
            file.Read(info, 0, data);
            return new TensorData(info.Name, info.Type, [.. info.Shape], data);
        })];
        Array.Reverse(tensors);
        using var stream = new MemoryStream();

        SafetensorsWriter.Write(stream, file.Metadata, tensors);

        Assert.That(stream.ToArray().AsSpan().SequenceEqual(File.ReadAllBytes(path)));
    }

    [TestCase(SafetensorsError.DuplicateName, "t", 1, 4)]
    [TestCase(SafetensorsError.DuplicateName, "__metadata__", 1, 4)]
    [TestCase(SafetensorsError.TensorInvalidInfo, "u", 3, 4)]
    [TestCase(SafetensorsError.TensorInvalidInfo, "u", 0, 4)]
    [TestCase(SafetensorsError.Overflow, "u", -1, 4)]
    public void What_could_not_be_read_back_is_not_written(SafetensorsError error, string name, long n, int bytes)
    {
        string path = _folder["x.safetensors"];

        Assert.That(
            () => SafetensorsWriter.Write(path, NoMetadata,
                [TensorData.FromFloat32("t", [1], [0]), new TensorData(name, TensorType.F32, [n], new byte[bytes])]),
            Fails(error));
        Assert.That(Directory.GetFileSystemEntries(_folder.Path), Is.Empty);
    }

    [Test]
    public void Half_a_surrogate_pair_is_not_written()
    {
        foreach (string text in new[] { "\ud800", "\udc00\ud800", "a\ud800b", "\udc00" })
        {
            var metadata = new Dictionary<string, string> { ["k"] = text };

            Assert.That(() => SafetensorsWriter.Write(new MemoryStream(), NoMetadata, [new TensorData(text, TensorType.U8, [1], new byte[1])]),
                Fails(SafetensorsError.InvalidUtf8));
            Assert.That(() => SafetensorsWriter.Write(new MemoryStream(), metadata, []), Fails(SafetensorsError.InvalidUtf8));
        }
    }

    [Test]
    public void Long_names_and_ranks_are_refused()
    {
        Assert.That(() => SafetensorsWriter.Write(new MemoryStream(), NoMetadata,
            [new TensorData(new string('n', 4097), TensorType.U8, [1], new byte[1])]), Fails(SafetensorsError.LimitExceeded));
        Assert.That(() => SafetensorsWriter.Write(new MemoryStream(), NoMetadata,
            [new TensorData("t", TensorType.U8, [1, 1, 1, 1, 1, 1, 1, 1, 1], new byte[1])]), Fails(SafetensorsError.LimitExceeded));
    }

    [Test]
    public void Row63_header_above_100_MB()
    {
        string path = _folder.Write("x.safetensors", "old");

        Assert.That(
            () => SafetensorsWriter.Write(path, new Dictionary<string, string> { ["a"] = new('x', SafetensorsHeader.MaxLength) }, []),
            Fails(SafetensorsError.HeaderTooLarge));
        Assert.That(File.ReadAllText(path), Is.EqualTo("old"));
    }

    [Test]
    public void Row63_full_device()
        => Assert.That(
            () =>
            {
                using var full = new FileStream("/dev/full", FileMode.Open, FileAccess.Write);
                SafetensorsWriter.Write(full, NoMetadata, [new TensorData("t", TensorType.U8, [100_000], new byte[100_000])]);
                full.Flush();
            },
            Throws.InstanceOf<IOException>());

    [Test]
    public void Row63_replacing_a_file_that_is_open_leaves_its_reader_the_old_bytes_or_an_error()
    {
        string path = _folder["x.safetensors"];
        SafetensorsWriter.Write(path, NoMetadata, [TensorData.FromFloat32("t", [1], [1])]);
        using SafetensorsFile old = SafetensorsFile.Open(path);

        SafetensorsWriter.Write(path, NoMetadata, [TensorData.FromFloat32("t", [1], [2])]);

        using SafetensorsFile now = SafetensorsFile.Open(path);
        Assert.That(now.ReadFloat32(now.Find("t")), Is.EqualTo(new[] { 2f }));
        Assert.That(() => old.ReadFloat32(old.Find("t")), Fails(SafetensorsError.InputOutput));
    }

    [Test]
    public void Missing_folder_is_an_IO_error()
        => Assert.That(() => SafetensorsWriter.Write(_folder["no", "x.safetensors"], NoMetadata, []), Fails(SafetensorsError.InputOutput));

    private static NUnit.Framework.Constraints.IResolveConstraint Fails(SafetensorsError error)
        => Throws.TypeOf<SafetensorsException>().With.Property(nameof(SafetensorsException.Error)).EqualTo(error);

    private static IEnumerable<TestCaseData> Originals()
        => Directory.GetFiles(Repository.Path("tests", "goldens"), "model*.safetensors", SearchOption.AllDirectories)
            .Append(Repository.Path("models", "demo", "model.safetensors"))
            .Order(StringComparer.Ordinal)
            .Select(path => new TestCaseData(path).SetArgDisplayNames(Path.GetRelativePath(Repository.Root, path)));
}
