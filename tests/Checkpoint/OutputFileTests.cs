using System.Diagnostics;
using System.IO.Pipes;
using System.Net.Sockets;
using System.Runtime.Versioning;
using System.Text;
using Tiller.Checkpoint;

namespace Tiller.Tests.Checkpoint;

/// <summary>What a path names is written, whatever it is: links are followed, and what is no regular file stays what it is.</summary>
[TestFixture]
[Platform("Linux", Reason = "links, devices, pipes and descriptors as Linux has them")]
[SupportedOSPlatform("linux")]
internal sealed class OutputFileTests
{
    private static readonly TimeSpan s_hanging = TimeSpan.FromMinutes(2);

    private TemporaryFolder _folder = null!;

    [SetUp]
    public void SetUp() => _folder = new TemporaryFolder();

    [TearDown]
    public void TearDown() => _folder.Dispose();

    [TestCase("link")]
    [TestCase("chain")]
    [TestCase("through/link")]
    [TestCase("through/upwards")]
    public void A_link_is_followed_and_stays_a_link(string path)
    {
        string target = _folder.Write("real/folder/target", "old");
        File.CreateSymbolicLink(_folder["link"], target);
        File.CreateSymbolicLink(_folder["chain"], "link");
        Directory.CreateSymbolicLink(_folder["through"], "real/folder");
        File.CreateSymbolicLink(_folder["real", "folder", "link"], "target");
        File.CreateSymbolicLink(_folder["real", "folder", "upwards"], "../folder/target");
        string before = Listing();

        Write(_folder[path.Split('/')], "new");

        Assert.That(File.ReadAllText(target), Is.EqualTo("new"));
        Assert.That(Listing(), Is.EqualTo(before), "every link is there, nothing else is");
    }

    [Test]
    public void A_link_to_nothing_makes_what_it_names()
    {
        Directory.CreateDirectory(_folder["there"]);
        File.CreateSymbolicLink(_folder["first"], "second");
        File.CreateSymbolicLink(_folder["second"], "there/new");

        Write(_folder["first"], "text");

        Assert.That(File.ReadAllText(_folder["there", "new"]), Is.EqualTo("text"));
        Assert.That(new FileInfo(_folder["second"]).LinkTarget, Is.EqualTo("there/new"));
    }

    [Test]
    public void A_failure_behind_a_link_leaves_the_old_file_and_nothing_else()
    {
        string target = _folder.Write("there/target", "old");
        File.CreateSymbolicLink(_folder["link"], target);
        string before = Listing();

        Assert.That(
            () => OutputFile.Write(_folder["link"], stream =>
            {
                stream.Write(new byte[100_000]);
                Assert.That(Directory.GetFiles(_folder["there"]), Has.Length.EqualTo(2), "the temporary file is beside the target");
                throw new IOException("no space left");
            }),
            Throws.TypeOf<IOException>().With.Message.EqualTo("no space left"));

        Assert.That((File.ReadAllText(target), Listing()), Is.EqualTo(("old", before)));
    }

    [TestCase("loop", "symbolic links")]
    [TestCase("folder", "is a folder; name a file")]
    [TestCase("folder/", "is a folder; name a file")]
    [TestCase("to-folder", "is a folder; name a file")]
    [TestCase("no/file", "there is no folder")]
    [TestCase("to-no-folder", "there is no folder")]
    [TestCase("file/below", "Not a directory")]
    [TestCase("/proc/self/fd/987654", "no such open descriptor")]
    public void What_cannot_be_written_is_refused_beforehand_as_well(string path, string says)
    {
        Directory.CreateDirectory(_folder["folder"]);
        _folder.Write("file", "kept");
        File.CreateSymbolicLink(_folder["loop"], "pool");
        File.CreateSymbolicLink(_folder["pool"], "loop");
        File.CreateSymbolicLink(_folder["to-folder"], "folder");
        File.CreateSymbolicLink(_folder["to-no-folder"], "no/file");
        string before = Listing(), full = path[0] == '/' ? path : _folder[path];

        Assert.That(() => OutputFile.Check(full), Throws.InstanceOf<IOException>().With.Message.Contains(says));
        Assert.That(
            () => OutputFile.Write(full, _ => Assert.Fail("nothing is written")), Throws.InstanceOf<IOException>().With.Message.Contains(says));

        Assert.That(Listing(), Is.EqualTo(before));
    }

    [Test]
    public void A_device_stays_one([Values] bool behindALink)
    {
        string device = Node("null", "c", "1", "3");
        string path = behindALink ? _folder["link"] : device;
        if (behindALink)
        {
            File.CreateSymbolicLink(path, device);
        }

        Write(path, new string('x', 200_000));

        Assert.That(FileIdentity.KindOf(device), Is.EqualTo(FileKind.Device));
        Assert.That(new FileInfo(_folder["link"]).LinkTarget, behindALink ? Is.EqualTo(device) : Is.Null);
        Assert.That(Directory.GetFileSystemEntries(_folder.Path), Has.Length.EqualTo(behindALink ? 2 : 1));
    }

    [Test]
    public void A_device_that_takes_no_more_is_an_error() =>
        Assert.That(() => Write(Node("full", "c", "1", "7"), "text"), Throws.TypeOf<IOException>().With.Message.StartsWith("No space left"));

    [Test]
    public async Task A_pipe_gets_all_of_it_and_stays_one()
    {
        string pipe = Node("pipe", "p");
        string text = new('x', 300_000);
        var reader = Task.Run(() => File.ReadAllText(pipe));

        await Task.Run(() => Write(pipe, text)).WaitAsync(s_hanging);

        Assert.That(await reader.WaitAsync(s_hanging), Is.EqualTo(text));
        Assert.That(FileIdentity.KindOf(pipe), Is.EqualTo(FileKind.Pipe));
        Assert.That(Directory.GetFileSystemEntries(_folder.Path), Is.EqualTo(new[] { pipe }));
    }

    [Test]
    public async Task A_pipe_that_nobody_reads_any_more_is_an_error()
    {
        string pipe = Node("pipe", "p");
        var reader = Task.Run(() => File.OpenRead(pipe).Dispose());
        var writer = Task.Run(() => OutputFile.Write(pipe, stream =>
        {
            reader.Wait();
            stream.Write(new byte[1_000_000]);
        }));
        await Task.WhenAny(writer, Task.Delay(s_hanging));
        Assert.That(() => writer.GetAwaiter().GetResult(), Throws.TypeOf<IOException>().With.Message.StartsWith("Broken pipe"));
    }

    [Test]
    public async Task A_socket_gets_all_of_it_and_stays_one()
    {
        string path = _folder["socket"];
        using var listener = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        listener.Bind(new UnixDomainSocketEndPoint(path));
        listener.Listen();
        var reader = Task.Run(async () =>
        {
            using var accepted = new StreamReader(new NetworkStream(await listener.AcceptAsync(), ownsSocket: true));
            return await accepted.ReadToEndAsync();
        });

        Write(path, "text");

        Assert.That(await reader.WaitAsync(s_hanging), Is.EqualTo("text"));
        Assert.That(FileIdentity.KindOf(path), Is.EqualTo(FileKind.Socket));
    }

    [Test]
    public void A_socket_without_a_listener_is_an_error()
    {
        string path = _folder["socket"];
        using (var listener = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified))
        {
            listener.Bind(new UnixDomainSocketEndPoint(path));
            Assert.That(() => Write(path, "text"), Throws.TypeOf<IOException>().With.Message.Contains("nobody listens"));
        }
    }

    [TestCase("/dev/fd/{0}")]
    [TestCase("/proc/self/fd/{0}")]
    [TestCase("/proc/thread-self/fd/{0}")]
    public async Task An_open_pipe_is_written_through_and_stays_open(string path)
    {
        using var reading = new AnonymousPipeServerStream(PipeDirection.In);
        using var writing = new AnonymousPipeClientStream(PipeDirection.Out, reading.ClientSafePipeHandle);
        Write(string.Format(path, writing.SafePipeHandle.DangerousGetHandle()), "one ");
        writing.Write("two"u8);
        writing.Dispose();
        reading.DisposeLocalCopyOfClientHandle();
        using var text = new StreamReader(reading);
        Assert.That(await text.ReadToEndAsync().WaitAsync(s_hanging), Is.EqualTo("one two"));
    }

    // A shell's `{ …; program --out /dev/fd/5; …; } 5>file`: what was there before and comes after stays.
    [Test]
    public void An_open_file_is_written_where_it_stands_and_moved_on()
    {
        string path = _folder.Write("file", "");
        using (var file = File.OpenHandle(path, FileMode.Open, FileAccess.Write))
        {
            string descriptor = $"/dev/fd/{file.DangerousGetHandle()}";
            File.CreateSymbolicLink(_folder["link"], descriptor);
            Write(descriptor, "before ");
            Write(_folder["link"], "and ");
            Write(descriptor, "after");
        }

        Assert.That(File.ReadAllText(path), Is.EqualTo("before and after"));
    }

    [Test]
    public void Standard_output_is_known_by_its_names()
    {
        File.CreateSymbolicLink(_folder["out"], "/dev/stdout");
        File.CreateSymbolicLink(_folder["loop"], "loop");
        string[] named = ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1", $"/proc/{Environment.ProcessId}/fd/1", _folder["out"]];
        Assert.That(named, Has.All.Matches<string>(path => OutputFile.IsStandardOutput(path!)));
        string[] others = ["/dev/stderr", "/dev/fd/12", "/proc/1/fd/1", "/dev/null", "1", "-", _folder["loop"], _folder["fd/1"]];
        Assert.That(others, Has.None.Matches<string>(path => OutputFile.IsStandardOutput(path!)));
    }

    [TestCase(UnixFileMode.UserRead | UnixFileMode.UserWrite)]
    [TestCase(
        UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.GroupRead | UnixFileMode.GroupWrite | UnixFileMode.OtherRead
            | UnixFileMode.OtherWrite)]
    public void A_replaced_file_keeps_its_permissions(UnixFileMode mode)
    {
        string path = _folder.Write("x", "old");
        File.SetUnixFileMode(path, mode);

        OutputFile.Write(path, stream =>
        {
            stream.Write("new"u8);
            string temporary = Directory.GetFiles(_folder.Path).Single(f => f != path);
            Assert.That(File.GetUnixFileMode(temporary), Is.EqualTo(mode), "before the first byte");
        });

        Assert.That((File.ReadAllText(path), File.GetUnixFileMode(path)), Is.EqualTo(("new", mode)));
    }

    [Test]
    public void A_replaced_file_keeps_its_owner_where_the_process_may_give_it_away()
    {
        Assume.That(Environment.IsPrivilegedProcess, Is.True, "only root may give files away");
        string path = _folder.Write("x", "old");
        Run("chown", "1234:4321", path);

        Write(path, "new");

        Assert.That((File.ReadAllText(path), FileIdentity.OwnerOf(path)), Is.EqualTo(("new", (1234u, 4321u))));
    }

    private static void Write(string path, string text) => OutputFile.Write(path, stream => stream.Write(Encoding.UTF8.GetBytes(text)));

    private string Node(string name, params string[] kind)
    {
        string path = _folder[name];
        if (Run("mknod", [path, .. kind]) != 0)
        {
            Assert.Ignore("devices cannot be made here");
        }

        return path;
    }

    private static int Run(string program, params string[] arguments)
    {
        using Process process = Process.Start(new ProcessStartInfo(program, arguments) { UseShellExecute = false, RedirectStandardError = true })!;
        process.StandardError.ReadToEnd();
        process.WaitForExit();
        return process.ExitCode;
    }

    private string Listing() =>
        string.Join('\n', Directory.EnumerateFileSystemEntries(_folder.Path, "*", SearchOption.AllDirectories).Order()
            .Select(path => $"{path} {new FileInfo(path).LinkTarget}"));
}
