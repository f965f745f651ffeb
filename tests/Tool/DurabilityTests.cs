using System.Diagnostics;
using Tiller.Controllers;

namespace Tiller.Tests.Tool;

/// <summary>What is saved is on the disk before it gets its name, as seen from outside the process.</summary>
[Platform("Linux", Reason = "puts a library of its own before libc")]
public sealed class DurabilityTests
{
    // Writes down which file is synced or renamed, and does it.
    private const string Spy =
        """
        #include <dlfcn.h>
        #include <fcntl.h>
        #include <stdio.h>
        #include <unistd.h>

        static void note(const char *what, const char *path)
        {
            char line[8192];
            int length = snprintf(line, sizeof line, "%s %s\n", what, path);
            int log = open(LOG, O_WRONLY | O_CREAT | O_APPEND, 0600);
            if (log >= 0)
            {
                if (write(log, line, length) < 0)
                    perror("log");
                close(log);
            }
        }

        extern "C" int fsync(int file)
        {
            char link[64], path[4096];
            snprintf(link, sizeof link, "/proc/self/fd/%d", file);
            ssize_t length = readlink(link, path, sizeof path - 1);
            path[length < 0 ? 0 : length] = 0;
            note("fsync", path);
            return ((int (*)(int))dlsym(RTLD_NEXT, "fsync"))(file);
        }

        extern "C" int rename(const char *from, const char *to)
        {
            note("rename", from);
            return ((int (*)(const char *, const char *))dlsym(RTLD_NEXT, "rename"))(from, to);
        }
        """;

    [Test]
    public async Task A_controller_is_synced_before_it_is_renamed()
    {
        using var scratch = new Scratch();
        await File.WriteAllTextAsync(scratch["spy.cpp"], Spy);
        if (!await Compile("-shared", "-fPIC", $"-DLOG=\"{scratch["log"]}\"", "-o", scratch["spy.so"], scratch["spy.cpp"], "-ldl"))
        {
            Assert.Ignore("The test needs g++, which is not installed: run tools/setup.sh.");
        }

        using var program = Program.StartWith(
            $"LD_PRELOAD={scratch["spy.so"]}", "fit", "--model", ToolRun.Model, "--positive", scratch.Few("topic.positive"), "--negative",
            scratch.Few("topic.negative"), "--cost", "feature", "--out", scratch["c.tiller"]);
        var (code, _, error) = await Program.Ended(program);
        Assert.That(code, Is.Zero, error);
        Assert.That(Controller.Load(scratch["c.tiller"]).L, Is.EqualTo(10));

        string[] calls = [.. File.ReadLines(scratch["log"])];
        string? rename = calls.SingleOrDefault(c => c.StartsWith("rename ", StringComparison.Ordinal)
            && c.Contains("c.tiller", StringComparison.Ordinal));
        Assert.That(rename, Is.Not.Null, string.Join('\n', calls));
        Assert.That(calls.TakeWhile(c => c != rename), Has.Some.EqualTo($"fsync {rename!["rename ".Length..]}"), string.Join('\n', calls));
    }

    private static async Task<bool> Compile(params string[] args)
    {
        try
        {
            using var compiler = Process.Start("g++", args);
            await compiler.WaitForExitAsync();
            Assert.That(compiler.ExitCode, Is.Zero, "g++");
            return true;
        }
        catch (System.ComponentModel.Win32Exception)
        {
            return false;
        }
    }
}
