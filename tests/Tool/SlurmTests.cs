using System.Diagnostics;
using System.Globalization;
using System.Net;
using System.Net.Sockets;

namespace Tiller.Tests.Tool;

/// <summary>Shards as tasks of a real Slurm's array, on this machine.</summary>
[NonParallelizable]
public sealed class SlurmTests
{
    private static readonly string[] s_programs = ["munged", "slurmctld", "slurmd", "sbatch", "scontrol", "squeue", "sinfo"];
    private static readonly string[] s_comparison = ["--demo", "--limit", "6", "--method", "actadd-lfs", "--method", "caa", "--lambda", "1", "2"];

    private Scratch _scratch = null!;
    private string _cluster = "";

    [SetUp]
    public async Task StartSlurm()
    {
        _scratch = new Scratch();
        string[] missing = [.. s_programs.Where(static name => Find(name) is null)];
        if (missing.Length > 0)
        {
            string message = "NOT TESTED: an array of shards needs Slurm (Debian's slurm-wlm and munge); this machine lacks "
                + $"{string.Join(", ", missing)}.";
            TestContext.Error.WriteLine(message);
            Assert.Ignore(message);
        }

        _cluster = _scratch["slurm"];
        string[] ports = FreePorts();
        await Run("bash", Script, "start", _cluster, ports[0], ports[1]);
    }

    [TearDown]
    public async Task StopSlurm()
    {
        if (_cluster.Length > 0)
        {
            await Run("bash", Script, "stop", _cluster);
        }

        _scratch.Dispose();
    }

    [Test]
    public async Task An_array_of_four_with_a_task_killed_and_requeued_gives_what_one_process_gives()
    {
        string[] parts = await ArrayOf(["compare", .. s_comparison], "*/cells/*.json");
        var merged = await ToolRun.Of(["merge", .. parts, "--out", _scratch["merged"]]);
        Assert.That(merged.Code, Is.Zero, merged.Error);
        var whole = await ToolRun.Of(["compare", .. s_comparison, "--out", _scratch["whole"]]);
        Assert.That(merged.Output, Is.EqualTo(whole.Output));
        Assert.That(
            await File.ReadAllBytesAsync(Path.Combine(_scratch["merged"], "report.html")),
            Is.EqualTo(await File.ReadAllBytesAsync(Path.Combine(_scratch["whole"], "report.html"))));
    }

    [Test]
    public async Task An_array_of_parts_of_a_fit_with_a_task_killed_and_requeued_gives_the_controller_of_one_process()
    {
        string[] fit =
            ["fit", "--model", ToolRun.Model, "--positive", ToolRun.Contrast("topic.positive"), "--negative", ToolRun.Contrast("topic.negative")];
        string[] parts = await ArrayOf(fit, "*.block-*.safetensors");
        var merged = await ToolRun.Of(["merge", .. parts, "--out", _scratch["merged.tiller"]]);
        Assert.That(merged.Code, Is.Zero, merged.Error);
        var whole = await ToolRun.Of([.. fit, "--out", _scratch["whole.tiller"]]);
        Assert.That(whole.Code, Is.Zero, whole.Error);
        Assert.That(await File.ReadAllBytesAsync(_scratch["merged.tiller"]), Is.EqualTo(await File.ReadAllBytesAsync(_scratch["whole.tiller"])));
    }

    // Runs the four parts of a command. Task 2 is killed when its first file of these is there, and then requeued. However fast the machine is,
    // one of them stays and the others are missing.
    private async Task<string[]> ArrayOf(string[] parted, string files)
    {
        string job = _scratch["job.sh"];
        string command = string.Join(' ', Program.Words([.. parted, "--shard", "auto", "--out"]).Select(static x => $"'{x}'"));
        File.WriteAllText(job, $$"""
            #!/bin/bash
            cd '{{_scratch[""]}}'
            part=part-$SLURM_ARRAY_TASK_ID
            echo "${SLURM_RESTART_COUNT:-0}" >> "runs-$SLURM_ARRAY_TASK_ID"
            files() { find "$part" -path '{{files}}' 2> /dev/null | sort; }
            if [ "$SLURM_ARRAY_TASK_ID" = 2 ] && [ "${SLURM_RESTART_COUNT:-0}" = 0 ]; then
                {{command}} "$part" &
                until [ -n "$(files)" ]; do kill -0 $! || exit 1; sleep 0.02; done
                kill -KILL $!
                wait
                files | tail -n +2 | xargs -r rm
                stat -c '%n %i' $(files) > kept
                scontrol requeue "${SLURM_ARRAY_JOB_ID}_2"
                sleep 600
            fi
            {{command}} "$part"
            echo $? > "code-$SLURM_ARRAY_TASK_ID"
            if [ "$SLURM_ARRAY_TASK_ID" = 2 ]; then stat -c '%n %i' "$(cut -d ' ' -f 1 kept)" > kept-after; fi
            """.ReplaceLineEndings("\n"));
        string id = (await Run("sbatch", "--parsable", "--requeue", "--array=0-3", $"--output={_scratch["log"]}-%a", job)).Trim();
        using var guard = Patience.Guard();
        while ((await Run("squeue", "--noheader", $"--jobs={id}")).Length > 0)
        {
            // A requeued task waits two minutes, if it is not told that it need not.
            await Run(["scontrol", "update", $"JobId={id}_2", "StartTime=now"], mustSucceed: false);
            await Task.Delay(200, guard.Token);
        }

        string[] log = [.. Enumerable.Range(0, 4).Select(i => File.ReadAllText($"{_scratch["log"]}-{i}"))];
        for (int i = 0; i < 4; i++)
        {
            Assert.That(File.ReadAllLines(_scratch[$"runs-{i}"]), Is.EqualTo(i == 2 ? new[] { "0", "1" } : ["0"]), log[i]);
            Assert.That(File.ReadAllText(_scratch[$"code-{i}"]).Trim(), Is.EqualTo("0"), log[i]);
        }

        Assert.That(File.ReadAllText(_scratch["kept-after"]), Is.EqualTo(File.ReadAllText(_scratch["kept"])), "what was there was computed again");
        return [.. Enumerable.Range(0, 4).Select(i => _scratch[$"part-{i}"])];
    }

    private static string Script => Repository.Path("tests", "Tool", "slurm.sh");

    private static string? Find(string program) => (Environment.GetEnvironmentVariable("PATH") + ":/usr/sbin").Split(':')
        .Select(folder => Path.Combine(folder, program)).FirstOrDefault(File.Exists);

    // Two at once, so that they differ.
    private static string[] FreePorts()
    {
        using TcpListener first = new(IPAddress.Loopback, 0), second = new(IPAddress.Loopback, 0);
        first.Start();
        second.Start();
        return [.. new[] { first, second }.Select(x => ((IPEndPoint)x.LocalEndpoint).Port.ToString(CultureInfo.InvariantCulture))];
    }

    private Task<string> Run(params string[] words) => Run(words, mustSucceed: true);

    private async Task<string> Run(string[] words, bool mustSucceed)
    {
        var start = new ProcessStartInfo(Find(words[0])!, words[1..])
        {
            UseShellExecute = false,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        };
        start.Environment["SLURM_CONF"] = Path.Combine(_cluster, "slurm.conf");
        start.Environment["PATH"] += ":/usr/sbin";
        using var process = Process.Start(start)!;

        using var guard = Patience.Guard();
        var (output, error) = (process.StandardOutput.ReadToEndAsync(guard.Token), process.StandardError.ReadToEndAsync(guard.Token));
        await process.WaitForExitAsync(guard.Token);
        Assert.That(mustSucceed ? process.ExitCode : 0, Is.Zero, $"{words[0]}: {await output} {await error}");
        return (await output).Trim();
    }
}
