using Tiller.Tool;

namespace Tiller.Tests.Tool;

/// <summary><c>tiller fit --shard</c>, <c>tiller linearity --shard</c> and <c>tiller merge</c> on the demo model.</summary>
public sealed class MergeTests
{
    private Scratch _scratch = null!;

    private string[] Fit =>
        ["fit", "--model", ToolRun.Model, "--positive", _scratch.Few("topic.positive", 10), "--negative", _scratch.Few("topic.negative", 9)];

    private string[] Linearity =>
    [
        "linearity", "--model", ToolRun.Model, "--prompts", _scratch.Few("topic.positive", 3), "--prompts", _scratch.Few("tone.positive", 2),
    ];

    [SetUp]
    public void MakeScratch() => _scratch = new Scratch();

    [TearDown]
    public void DeleteScratch() => _scratch.Dispose();

    [Test]
    public async Task Parts_of_a_fit_give_the_controller_of_one_process()
    {
        byte[] whole = await Controller([.. Fit, "--q", "0.03", "--out", _scratch["whole.tiller"]]);
        foreach (int count in new[] { 1, 2, 3, 5 })
        {
            string[] parts = await Shards([.. Fit, "--q", "0.03"], count);
            Assert.That(await Controller(["merge", .. parts, "--out", _scratch["merged.tiller"]]), Is.EqualTo(whole), $"{count} parts");
        }

        // The controller to standard output, and a plan of controllers for several weights with a file of Jacobians.
        var piped = await ToolRun.Of("merge", _scratch["1-of-1"], _scratch["0-of-1"], "--out", "-");
        Assert.That((piped.Code, piped.Error), Is.EqualTo((ExitCode.BadInput, piped.Error)), "there is no part 1 of 1");
        piped = await ToolRun.Of("merge", _scratch["0-of-1"], "--out", "-");
        Assert.That(piped.Data, Is.EqualTo(whole), piped.Error);
    }

    [Test]
    public async Task Parts_may_run_on_other_devices_and_print_otherwise()
    {
        byte[] whole = await Controller([.. Fit, "--out", _scratch["whole.tiller"]]);
        string parts = _scratch["parts"];
        await Controller([.. Fit, "--threads", "1", "--json", "--out", parts, "--shard", "0/2"]);
        await Controller([.. Fit, "--device", "cpu", "--threads", "2", "--out", parts, "--shard", "1/2"]);
        var merged = await ToolRun.Of("merge", parts, "--out", _scratch["merged.tiller"], "--device", "cpu", "--threads", "1");
        Assert.That((merged.Code, merged.Output.StartsWith("model ", StringComparison.Ordinal)), Is.EqualTo((0, true)), merged.Error + merged.Output);
        Assert.That(await File.ReadAllBytesAsync(_scratch["merged.tiller"]), Is.EqualTo(whole));
    }

    [Test]
    public async Task Parts_may_be_given_in_different_folders_whose_files_are_the_same()
    {
        byte[] whole = await Controller([.. Fit, "--out", _scratch["whole.tiller"]]);
        string[] fit = ["fit", .. Fit[1..3], "--positive", "p.txt", "--negative", "n.txt", "--out", "parts", "--shard"];
        string[] machines = [.. new[] { "a", "b" }.Select(name => Directory.CreateDirectory(_scratch[name]).FullName)];
        foreach (string machine in machines)
        {
            File.Copy(Fit[4], Path.Combine(machine, "p.txt"));
            File.Copy(Fit[6], Path.Combine(machine, "n.txt"));
            await In(machine, ExitCode.Ok, "", [.. fit, $"{Array.IndexOf(machines, machine)}/2"]);
        }

        // A part may be run again from anywhere, and the prompts are those of the folder in which the parts are put together.
        await In(machines[0], ExitCode.Ok, "", [.. fit[..^2], _scratch["b/parts"], "--shard", "1/2"]);
        string[] merge = ["merge", _scratch["a/parts"], _scratch["b/parts"], "--out", _scratch["merged.tiller"]];
        await In(machines[1], ExitCode.Ok, "", merge);
        Assert.That(await File.ReadAllBytesAsync(_scratch["merged.tiller"]), Is.EqualTo(whole));
        File.Delete(_scratch["merged.tiller"]);
        await In(_scratch["."], ExitCode.BadInput, "p.txt", merge);
        File.AppendAllText(_scratch["b/p.txt"], "Another one\n");
        await In(machines[1], ExitCode.BadInput, "other prompts or settings", merge);
        Assert.That(File.Exists(_scratch["merged.tiller"]), Is.False);

        // Put together on a machine that has no folder of that name, they lead from the current one as well.
        Directory.Move(machines[1], _scratch["c"]);
        File.Copy(_scratch["a/p.txt"], _scratch["c/p.txt"], overwrite: true);
        await In(_scratch["c"], ExitCode.Ok, "", ["fit", .. fit[1..^2], _scratch["d"], "--shard", "0/1"]);
        Directory.Move(_scratch["c"], machines[1]);
        await In(machines[1], ExitCode.Ok, "", "merge", _scratch["d"], "--out", _scratch["merged.tiller"]);
        Assert.That(await File.ReadAllBytesAsync(_scratch["merged.tiller"]), Is.EqualTo(whole));
    }

    [Test]
    public async Task A_certificate_and_its_page_come_of_parts_too()
    {
        string held = _scratch["held.txt"];
        await File.WriteAllLinesAsync(held, File.ReadLines(ToolRun.Contrast("topic.positive")).Skip(20).Take(3));
        string[] fit = [.. Fit, "--certify", held];
        Directory.CreateDirectory(_scratch["whole"]);
        byte[] whole = await Controller([.. fit, "--page", _scratch["whole.html"], "--out", _scratch["whole/a.tiller"]]);
        string[] parts = await Shards(fit, 2);
        byte[] merged = await Controller(["merge", .. parts, "--page", _scratch["merged.html"], "--out", _scratch["a.tiller"]]);
        Assert.That(merged, Is.EqualTo(whole));
        Assert.That(File.ReadAllText(_scratch["merged.html"]), Is.EqualTo(File.ReadAllText(_scratch["whole.html"])));
    }

    [Test]
    public async Task Several_controllers_and_the_file_of_Jacobians_come_of_parts_too()
    {
        string[] command = [.. Fit, "--q", "0.03", "1", "--cost", "feature", "--jacobians"];
        await Controller([.. command, _scratch["whole.jacobians"], "--out", _scratch["whole-{q}.tiller"]]);
        string[] parts = await Shards([.. command, _scratch["merged.jacobians"]], 2);
        var one = await ToolRun.Of(["merge", .. parts, "--out", _scratch["merged.tiller"]]);
        Assert.That((one.Code, one.Error), Is.EqualTo((ExitCode.Usage, one.Error)));
        Assert.That(one.Error, Does.Contain("{q}"));
        await Controller(["merge", .. parts, "--out", _scratch["merged-{q}.tiller"]]);
        foreach (string name in new[] { "-0.03.tiller", "-1.tiller", ".jacobians" })
        {
            Assert.That(File.ReadAllBytes(_scratch["merged" + name]), Is.EqualTo(File.ReadAllBytes(_scratch["whole" + name])), name);
        }
    }

    [Test]
    public async Task Parts_of_linearity_give_the_table_json_and_page_of_one_process()
    {
        await Controller([.. Fit, "--cost", "feature", "--out", _scratch["c.tiller"]]);
        foreach (string[] command in new string[][] { Linearity, [.. Linearity, "--controller", _scratch["c.tiller"], "--lambda", "0.5"] })
        {
            var whole = await ToolRun.Of([.. command, "--page", _scratch["whole.html"]]);
            Assert.That(whole.Code, Is.Zero, whole.Error);
            string json = (await ToolRun.Of([.. command, "--json"])).Output;
            foreach (int count in new[] { 1, 2, 3, 7 })
            {
                string[] parts = await Shards(command, count);
                var merged = await ToolRun.Of(["merge", .. parts, "--page", _scratch["merged.html"]]);
                Assert.That((merged.Code, merged.Output), Is.EqualTo((0, whole.Output)), $"{count} parts: {merged.Error}");
                Assert.That(File.ReadAllText(_scratch["merged.html"]), Is.EqualTo(File.ReadAllText(_scratch["whole.html"])));
                Assert.That((await ToolRun.Of(["merge", .. parts, "--json"])).Output, Is.EqualTo(json));
                Array.ForEach(parts, part => Directory.Delete(part, recursive: true));
            }
        }
    }

    [Test]
    public async Task A_part_that_was_killed_is_run_again_and_the_whole_is_the_same()
    {
        byte[] whole = await Controller([.. Fit, "--out", _scratch["whole.tiller"]]);
        string parts = _scratch["parts"];
        using (var process = Program.Start([.. Fit, "--out", parts, "--shard", "0/2"]))
        {
            using var guard = Patience.Guard();
            while (!process.HasExited && !(Directory.Exists(parts) && Directory.EnumerateFiles(parts, "*.block-*.safetensors").Any()))
            {
                await Task.Delay(5, guard.Token);
            }

            process.Kill();
            await process.WaitForExitAsync(guard.Token);
        }

        string[] kept = Directory.GetFiles(parts, "*.block-*.safetensors");
        var before = kept.Select(File.GetLastWriteTimeUtc).ToList();
        Assert.That(kept, Is.Not.Empty);
        foreach (string shard in new[] { "1/2", "0/2", "0/2" })
        {
            var run = await ToolRun.Of([.. Fit, "--out", parts, "--shard", shard]);
            Assert.That((run.Code, run.Output), Is.EqualTo((0, "")), run.Error);
        }

        Assert.That(kept.Select(File.GetLastWriteTimeUtc), Is.EqualTo(before), "what was there was not measured again");
        Assert.That(await Controller(["merge", parts, "--out", _scratch["merged.tiller"]]), Is.EqualTo(whole));
    }

    [Test]
    public async Task A_part_tells_its_size_before_it_starts_and_what_comes_next()
    {
        var run = await ToolRun.Of([.. Fit, "--out", _scratch["parts"], "--shard", "1/2"]);
        Assert.That(run.Code, Is.Zero, run.Error);
        const string Size = "tiller: shard 1/2 measures 9 of 19 prompts and keeps 1.3 MiB in "; // 8 L D² bytes, and 9 prompts' states
        Assert.That(run.Error, Does.Contain(Size));
        Assert.That(run.Error, Does.Contain($"when all have: tiller merge {_scratch["parts"]} --out FILE"));
    }

    [Test]
    public async Task What_cannot_be_put_together_is_told()
    {
        string[] half = [.. Fit, "--out", _scratch["half"], "--shard", "0/2"];
        Assert.That((await ToolRun.Of(half)).Code, Is.Zero);
        await Refused(ExitCode.BadInput, "Of 2 shards, 1 has not ended: 1.", "merge", _scratch["half"], "--out", _scratch["c.tiller"]);
        await Refused(ExitCode.BadInput, "of another command", [.. half[..^4], "--q", "1", "--out", _scratch["half"], "--shard", "1/2"]);
        await Refused(ExitCode.BadInput, "of other prompts", [.. half[..^4], "--layers", "1-2", "--out", _scratch["half"], "--shard", "1/2"]);
        Assert.That((await ToolRun.Of([.. half[..^1], "1/2"])).Code, Is.Zero);
        await Refused(ExitCode.Usage, "Expected --out FILE", "merge", _scratch["half"]);
        string[] page = ["--page", _scratch["p.html"]];
        await Refused(ExitCode.Usage, "--page plots the certificate", ["merge", _scratch["half"], "--out", _scratch["c.tiller"], .. page]);
        Assert.That(File.Exists(_scratch["p.html"]), Is.False);

        // The prompts are read again, and must be those that were measured.
        string prompts = half[4], text = await File.ReadAllTextAsync(prompts);
        await File.WriteAllTextAsync(prompts, text + "Another one\n");
        await Refused(ExitCode.BadInput, "other prompts or settings", "merge", _scratch["half"], "--out", _scratch["c.tiller"]);
        await File.WriteAllTextAsync(prompts, text);

        await Refused(ExitCode.Usage, "add --jacobians FILE", [.. Fit, "--cost", "feature", "--out", _scratch["p"], "--shard", "0/2"]);
        await Refused(ExitCode.Usage, "add --jacobians FILE", [.. Fit, "--order", "4", "--out", _scratch["p"], "--shard", "0/2"]);
        await Refused(ExitCode.Usage, "add --jacobians FILE", [
            "fit", "--model", ToolRun.Model, "--positive", _scratch.Few("tone.positive"), "--negative", _scratch.Few("tone.negative"),
            "--method", "la-lqr", "--out", _scratch["p"], "--shard", "0/2",
        ]);
        await Refused(ExitCode.Usage, "leave --shard out", [.. Fit, "--plan", "--out", _scratch["p"], "--shard", "0/2"]);
        await Refused(ExitCode.Usage, "and not standard output", [.. Fit, "--out", "-", "--shard", "0/2"]);
        await Refused(ExitCode.Usage, "and not standard output", [.. Linearity, "--out", "-", "--shard", "0/2"]);
        await Refused(ExitCode.Usage, "Expected --out DIR", [.. Linearity, "--shard", "0/2"]);
        await Refused(ExitCode.Usage, "give --shard i/N too", [.. Linearity, "--out", _scratch["p"]]);
        await Refused(ExitCode.Usage, "give it to tiller merge", [.. Linearity, "--out", _scratch["p"], "--shard", "0/2", .. page]);
        await Refused(ExitCode.Usage, "give it to tiller merge", [.. Fit, "--certify", Fit[4], "--out", _scratch["p"], "--shard", "0/2", .. page]);
        Assert.That((await ToolRun.Of([.. Linearity, "--out", _scratch["l"], "--shard", "0/1"])).Code, Is.Zero);
        await Refused(ExitCode.Usage, "leave --out out", "merge", _scratch["l"], "--out", _scratch["c.tiller"]);
        await Refused(ExitCode.BadInput, "put together the shards of one command", "merge", _scratch["l"], _scratch["half"]);
        await Refused(ExitCode.Usage, "--page is for the plots", ["merge", _scratch["p"], .. page]);
        await Refused(ExitCode.Usage, "--device and --threads are for a fit", "merge", _scratch["p"], "--threads", "1");
        await Refused(ExitCode.BadInput, "Name a folder that a comparison was run in", "merge", _scratch["p"]);
        Assert.That(File.Exists(_scratch["c.tiller"]), Is.False);
    }

    private static async Task Refused(int code, string problem, params string[] args)
    {
        var run = await ToolRun.Of(args);
        string told = $"{string.Join(' ', args)}\n{run.Error}";
        Assert.That((run.Code, run.Error.Contains(problem, StringComparison.Ordinal)), Is.EqualTo((code, true)), told);
    }

    private static async Task In(string folder, int code, string problem, params string[] args)
    {
        using var process = Program.StartAt(folder, args);
        var (ended, output, error) = await Program.Ended(process);
        string told = $"{string.Join(' ', args)}\n{error}{output}";
        Assert.That((ended, told.Contains(problem, StringComparison.Ordinal)), Is.EqualTo((code, true)), told);
    }

    private static async Task<byte[]> Controller(string[] command)
    {
        var run = await ToolRun.Of(command);
        Assert.That(run.Code, Is.Zero, run.Error);
        return File.Exists(command[^1]) ? await File.ReadAllBytesAsync(command[^1]) : [];
    }

    // Each in a folder of its own.
    private async Task<string[]> Shards(string[] command, int count)
    {
        string[] folders = [.. Enumerable.Range(0, count).Select(i => _scratch[$"{i}-of-{count}"])];
        for (int i = 0; i < count; i++)
        {
            var run = await ToolRun.Of([.. command, "--out", folders[i], "--shard", $"{i}/{count}"]);
            Assert.That((run.Code, run.Output), Is.EqualTo((0, "")), run.Error);
        }

        return folders;
    }
}
