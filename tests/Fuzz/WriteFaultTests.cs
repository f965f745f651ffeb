using System.Diagnostics;
using Tiller.Checkpoint;
using Tiller.Controllers;
using Tiller.Decode;
using Tiller.Fuzz;
using Tiller.Tests.Checkpoint;

namespace Tiller.Tests.Fuzz;

/// <summary>
/// docs/hostile-inputs.md §3d, row 58: a controller or trace that cannot be written is a typed error; the old file is as it was and nothing is left.
/// </summary>
[TestFixture("controller")]
[TestFixture("trace")]
public sealed class WriteFaultTests(string kind)
{
    private TemporaryFolder _folder = null!;

    [SetUp]
    public void SetUp() => _folder = new TemporaryFolder();

    [TearDown]
    public void TearDown() => _folder.Dispose();

    [Test]
    public void A_folder_in_the_way([Values] bool empty)
    {
        Directory.CreateDirectory(empty ? _folder["x"] : _folder["x", "full"]);
        Refused(_folder["x"]);
        Assert.That(Directory.GetFileSystemEntries(_folder.Path), Is.EqualTo(new[] { _folder["x"] }));
    }

    [Test]
    public void No_such_folder() => Refused(_folder["no", "x"]);

    [Test]
    [System.Runtime.Versioning.UnsupportedOSPlatform("windows")]
    public void No_permission()
    {
        Assume.That(Environment.IsPrivilegedProcess, Is.False, "root may write everywhere");
        string path = _folder.Write("x", "old");
        File.SetUnixFileMode(_folder.Path, UnixFileMode.UserRead | UnixFileMode.UserExecute);
        Refused(path);
        File.SetUnixFileMode(_folder.Path, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute);
        Whole(path);
    }

    [Test]
    public void A_full_disk() => OnSmallDisk("size=8k,nr_inodes=9", path =>
    {
        Refused(path);
        Whole(path);
    });

    [Test]
    public void A_disk_without_a_free_inode() => OnSmallDisk("size=1m,nr_inodes=2", path =>
    {
        Refused(path);
        Whole(path);
    });

    [Test]
    public void A_read_only_disk() => OnSmallDisk("size=1m", path =>
    {
        Shell($"mount -o remount,ro '{Path.GetDirectoryName(path)}'");
        Refused(path);
        Whole(path);
    });

    // EFBIG, which needs no privilege: RLIMIT_FSIZE in a child, as a quota would do it. The runtime maps its code through a file unless told not to.
    [Test]
    [Platform(Exclude = "Win", Reason = "limits are set by a shell")]
    public void A_file_above_the_limit_of_the_process()
    {
        string name = kind == "controller" ? SaveLoop.Files[0] : SaveLoop.Files[1];
        string path = _folder.Write(name, "old");
        var (code, error) = Shell(
            $"trap '' XFSZ; export DOTNET_EnableWriteXorExecute=0; ulimit -f 4; exec dotnet '{typeof(SaveLoop).Assembly.Location}' save --folder "
            + $"'{_folder.Path}' --only {kind}");
        Assert.That(code, Is.Not.Zero);
        Assert.That(error, Does.Contain(kind == "controller" ? nameof(SafetensorsException) : nameof(SteeringTraceException)));
        Whole(path);
    }

    private void Refused(string path)
    {
        if (kind == "controller")
        {
            Controller controller = SaveLoop.MakeController(0);
            var error = Assert.Throws<SafetensorsException>(() => controller.Save(path));
            Assert.That((error!.Error, error.File), Is.EqualTo((SafetensorsError.InputOutput, path)), error.Message);
        }
        else
        {
            SteeringTrace trace = SaveLoop.MakeTrace(0);
            var error = Assert.Throws<SteeringTraceException>(() => trace.Write(path));
            Assert.That(error!.File, Is.EqualTo(path));
            Assert.That(error.Message, Does.Contain(Path.GetFileName(path)));
        }
    }

    private static void Whole(string path)
    {
        Assert.That(File.ReadAllText(path), Is.EqualTo("old"));
        Assert.That(Directory.GetFileSystemEntries(Path.GetDirectoryName(path)!), Is.EqualTo(new[] { path }));
    }

    private void OnSmallDisk(string options, Action<string> check)
    {
        string disk = _folder["disk"];
        Directory.CreateDirectory(disk);
        if (OperatingSystem.IsWindows() || Shell($"mount -t tmpfs -o {options} tmpfs '{disk}'").Code != 0)
        {
            Assert.Ignore("a small disk cannot be mounted here");
        }

        try
        {
            string path = Path.Combine(disk, "x");
            File.WriteAllText(path, "old");
            check(path);
        }
        finally
        {
            Shell($"umount '{disk}'");
        }
    }

    private static (int Code, string Error) Shell(string command)
    {
        var start = new ProcessStartInfo("bash") { RedirectStandardError = true, RedirectStandardOutput = true, UseShellExecute = false };
        start.ArgumentList.Add("-c");
        start.ArgumentList.Add(command);
        using Process process = Process.Start(start)!;
        Task<string> output = process.StandardOutput.ReadToEndAsync();
        string error = process.StandardError.ReadToEnd();
        process.WaitForExit();
        output.Wait();
        return (process.ExitCode, error);
    }
}
