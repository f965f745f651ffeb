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
        await Run("bash", Script, "start", _cluster, FreePort(), FreePort());
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
        // Task 2 is killed when its first cell is there, and then requeued.
        string job = _scratch["job.sh"];
        string command = string.Join(' ', Program.Words(["compare", .. s_comparison, "--shard", "auto", "--out"]).Select(static x => $"'{x}'"));
        File.WriteAllText(job, $$"""
            #!/bin/bash
            cd '{{_scratch[""]}}'
            part=part-$SLURM_ARRAY_TASK_ID
            echo "${SLURM_RESTART_COUNT:-0}" >> "runs-$SLURM_ARRAY_TASK_ID"
            if [ "$SLURM_ARRAY_TASK_ID" = 2 ] && [ "${SLURM_RESTART_COUNT:-0}" = 0 ]; then
                {{command}} "$part" &
                until compgen -G "$part/cells/*/*/*.json" > /dev/null; do sleep 0.02; done
                kill -KILL $!
                scontrol requeue "${SLURM_ARRAY_JOB_ID}_2"
                sleep 600
            fi
            {{command}} "$part"
            echo $? > "code-$SLURM_ARRAY_TASK_ID"
            """.ReplaceLineEndings("\n"));
        string id = (await Run("sbatch", "--parsable", "--requeue", "--array=0-3", $"--output={_scratch["log"]}-%a", job)).Trim();
        for (int tries = 0; (await Run("squeue", "--noheader", $"--jobs={id}")).Length > 0; tries++)
        {
            Assert.That(tries, Is.LessThan(3000), "a guard against hanging");

            // A requeued task waits two minutes, if it is not told that it need not.
            await Run(["scontrol", "update", $"JobId={id}_2", "StartTime=now"], mustSucceed: false);
            await Task.Delay(200);
        }

        string[] log = [.. Enumerable.Range(0, 4).Select(i => File.ReadAllText($"{_scratch["log"]}-{i}"))];
        for (int i = 0; i < 4; i++)
        {
            Assert.That(File.ReadAllLines(_scratch[$"runs-{i}"]), Is.EqualTo(i == 2 ? new[] { "0", "1" } : ["0"]), log[i]);
            Assert.That(File.ReadAllText(_scratch[$"code-{i}"]).Trim(), Is.EqualTo("0"), log[i]);
        }

        var merged = await ToolRun.Of([
            "merge", .. Enumerable.Range(0, 4).Select(i => _scratch[$"part-{i}"]), "--out", _scratch["merged"],
        ]);
        Assert.That(merged.Code, Is.Zero, merged.Error);
        var whole = await ToolRun.Of(["compare", .. s_comparison, "--out", _scratch["whole"]]);
        Assert.That(merged.Output, Is.EqualTo(whole.Output));
        Assert.That(
            await File.ReadAllBytesAsync(Path.Combine(_scratch["merged"], "report.html")),
            Is.EqualTo(await File.ReadAllBytesAsync(Path.Combine(_scratch["whole"], "report.html"))));
    }

    private static string Script => Repository.Path("tests", "Tool", "slurm.sh");

    private static string? Find(string program) => (Environment.GetEnvironmentVariable("PATH") + ":/usr/sbin").Split(':')
        .Select(folder => Path.Combine(folder, program)).FirstOrDefault(File.Exists);

    private static string FreePort()
    {
        using var listener = new TcpListener(IPAddress.Loopback, 0);
        listener.Start();
        return ((IPEndPoint)listener.LocalEndpoint).Port.ToString(CultureInfo.InvariantCulture);
    }

    private Task<string> Run(params string[] words) => Run(words, mustSucceed: true);

    private async Task<string> Run(string[] words, bool mustSucceed)
    {
        var start = new ProcessStartInfo(Find(words[0])!, words[1..]) { RedirectStandardOutput = true, RedirectStandardError = true };
        start.Environment["SLURM_CONF"] = Path.Combine(_cluster, "slurm.conf");
        start.Environment["PATH"] += ":/usr/sbin";
        using var process = Process.Start(start)!;

        // Daemons keep the streams of the script that starts them open, so its end is waited for, not theirs.
        var (output, error) = (new System.Text.StringBuilder(), new System.Text.StringBuilder());
        process.OutputDataReceived += (_, line) => output.AppendLine(line.Data);
        process.ErrorDataReceived += (_, line) => error.AppendLine(line.Data);
        process.BeginOutputReadLine();
        process.BeginErrorReadLine();
        while (!process.HasExited)
        {
            await Task.Delay(20);
        }

        if (words[0] != "bash")
        {
            await process.WaitForExitAsync();
        }

        Assert.That(mustSucceed ? process.ExitCode : 0, Is.Zero, $"{words[0]}: {output} {error}");
        return output.ToString().Trim();
    }
}
