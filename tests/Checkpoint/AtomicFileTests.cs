using Tiller.Checkpoint;

namespace Tiller.Tests.Checkpoint;

[TestFixture]
internal sealed class AtomicFileTests
{
    private TemporaryFolder _folder = null!;

    [SetUp]
    public void SetUp() => _folder = new TemporaryFolder();

    [TearDown]
    public void TearDown() => _folder.Dispose();

    [Test]
    public void Creates_and_replaces()
    {
        string path = _folder["x"];

        OutputFile.Write(path, stream => stream.Write("one"u8));
        OutputFile.Write(path, stream => stream.Write("2"u8));

        Assert.That(File.ReadAllText(path), Is.EqualTo("2"));
        Assert.That(Directory.GetFileSystemEntries(_folder.Path), Is.EqualTo(new[] { path }));
    }

    [TestCase(0)]
    [TestCase(1)]
    [TestCase(100_000)]
    public void Failure_after_some_bytes_keeps_the_old_file_and_leaves_nothing(int bytes)
    {
        string path = _folder.Write("x", "old");

        Assert.That(
            () => OutputFile.Write(path, stream =>
            {
                stream.Write(new byte[bytes]);
                throw new IOException("no space left");
            }),
            Throws.TypeOf<IOException>().With.Message.EqualTo("no space left"));

        Assert.That(File.ReadAllText(path), Is.EqualTo("old"));
        Assert.That(Directory.GetFileSystemEntries(_folder.Path), Is.EqualTo(new[] { path }));
    }

    [Test]
    public void Failure_of_the_rename_leaves_nothing()
    {
        Directory.CreateDirectory(_folder["x", "full"]);

        Assert.That(() => OutputFile.Write(_folder["x"], stream => stream.Write("new"u8)),
            Throws.InstanceOf<IOException>().Or.InstanceOf<UnauthorizedAccessException>());

        Assert.That(Directory.GetFileSystemEntries(_folder.Path), Is.EqualTo(new[] { _folder["x"] }));
    }

    [Test]
    [Platform(Exclude = "Win", Reason = "nothing is cleaned up there")]
    public void What_a_dead_writer_left_is_removed_and_nothing_else()
    {
        string path = _folder["x"];
        string abandoned = _folder.Write(".x.4711-0123456789ab.tmp", "half");
        string[] others =
        [
            _folder.Write(".y.4711-0123456789ab.tmp", ""), _folder.Write(".x.4711-0123456789AB.tmp", ""), _folder.Write(".x.4711.tmp", ""),
            _folder.Write(".x.me-0123456789ab.tmp", ""),
            _folder.Write("x.4711-0123456789ab.tmp", ""), _folder.Write(".x..4711-0123456789ab.tmp", ""),
            _folder.Write(".x.4711-0123456789abc.tmp", ""), _folder.Write(".x.-0123456789ab.tmp", ""),
        ];
        Directory.CreateDirectory(_folder[".x.4712-0123456789ab.tmp"]);
        using (var fifo = System.Diagnostics.Process.Start("mkfifo", [_folder[".x.4713-0123456789ab.tmp"]]))
        {
            fifo.WaitForExit();
        }

        OutputFile.Write(path, stream => stream.Write("new"u8));

        Assert.That(File.Exists(abandoned), Is.False);
        Assert.That(
            Directory.GetFileSystemEntries(_folder.Path),
            Is.EquivalentTo(others.Append(path).Append(_folder[".x.4712-0123456789ab.tmp"]).Append(_folder[".x.4713-0123456789ab.tmp"])));
    }

    [Test]
    public void A_living_writer_keeps_its_temporary_file()
    {
        string path = _folder["x"];

        OutputFile.Write(path, outer =>
        {
            outer.Write("outer"u8);
            outer.Flush();
            OutputFile.Write(path, inner => inner.Write("inner"u8));
            Assert.That(File.ReadAllText(path), Is.EqualTo("inner"));
            Assert.That(Directory.GetFileSystemEntries(_folder.Path), Has.Length.EqualTo(2));
        });

        Assert.That(File.ReadAllText(path), Is.EqualTo("outer"));
        Assert.That(Directory.GetFileSystemEntries(_folder.Path), Is.EqualTo(new[] { path }));
    }

    [Test]
    public void Missing_folder()
        => Assert.That(() => OutputFile.Write(_folder["no", "x"], stream => stream.Write("new"u8)), Throws.InstanceOf<IOException>());

    [Test]
    public void Readers_see_whole_files_only()
    {
        // In memory where there is such a folder, since syncing a disk 10,000 times takes minutes.
        using var memory = new TemporaryFolder(Directory.Exists("/dev/shm") ? "/dev/shm" : null);
        string path = memory["x"];
        byte[] Content(int i) => [.. Enumerable.Repeat((byte)i, 10_000 + (i % 256))];
        OutputFile.Write(path, stream => stream.Write(Content(0)));
        using var stop = new CancellationTokenSource();
        Task<int> reader = Task.Run(() =>
        {
            int reads = 0;
            while (!stop.IsCancellationRequested)
            {
                byte[] seen = File.ReadAllBytes(path);
                if (!seen.AsSpan().SequenceEqual(Content(seen[0])))
                {
                    return -1;
                }

                reads++;
            }

            return reads;
        });

        Task[] writers = [.. Enumerable.Range(0, 2).Select(w => Task.Run(() =>
        {
            for (int i = 1; i <= 5000; i++)
            {
                OutputFile.Write(path, stream => stream.Write(Content((2 * i) + w)));
            }
        }))];
        Task.WaitAll(writers);
        stop.Cancel();

        Assert.That(reader.Result, Is.Positive);
        Assert.That(Directory.GetFileSystemEntries(memory.Path), Is.EqualTo(new[] { path }));
    }
}
