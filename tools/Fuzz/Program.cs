using System.CommandLine;
using System.Globalization;
using Tiller.Fuzz;

var minutes = new Option<double?>("--minutes")
{
    Description = "Run so long; 1 when neither this nor --count is given.",
    CustomParser = result =>
    {
        string text = result.Tokens[^1].Value;
        if (double.TryParse(text, NumberStyles.AllowDecimalPoint, CultureInfo.InvariantCulture, out double value) && value is > 0 and <= 1e6)
        {
            return value;
        }

        result.AddError($"--minutes must be a number above 0 and at most 1e6, got '{text}': write 1.5.");
        return null;
    },
};
var count = new Option<long?>("--count") { Description = "Run until so many inputs were read, or kills done." };
var seed = new Option<int?>("--seed") { Description = "Seed of every random choice; by default one from the clock, which is printed." };
var target = new Option<string[]>("--target") { Description = $"Readers to attack: {string.Join(", ", FuzzTarget.Names)}. All by default." };
target.AcceptOnlyFromAmong([.. FuzzTarget.Names]);
var corpus = new Option<string>("--corpus")
{
    Description = "Folder of goldens that the seeds are made from.",
    DefaultValueFactory = _ => Path.Combine("tests", "goldens"),
};
var output = new Option<string>("--out") { Description = "Folder for findings.", DefaultValueFactory = _ => Path.Combine("artifacts", "fuzz") };
var json = new Option<bool>("--json") { Description = "Report as JSON." };
var replay = new Option<FileInfo?>("--replay") { Description = "Read one input again, for the one --target." };
var mailbox = new Option<string>("--mailbox") { Required = true };
var folder = new Option<string>("--folder") { Required = true };

var root = new RootCommand(
    "Attacks the readers of checkpoints, tokenizers, controllers and prompts. Exit code 1 if anything was found, 2 if the command line is wrong.")
{
    minutes, count, seed, target, corpus, output, json, replay,
};
root.SetAction((parse, cancellationToken) => Task.FromResult(Fuzz(parse, cancellationToken)));

var kill = new Command("kill", "Kills a process that saves controllers and traces, --count times (1,000), and checks what is left.") { count, seed };
kill.SetAction((parse, cancellationToken) => Task.FromResult(Kill(parse, cancellationToken)));

var child = new Command("child") { corpus, mailbox };
child.Hidden = true;
child.SetAction(parse =>
{
    using var shared = new Mailbox(parse.GetValue(mailbox)!);
    using var answers = new StreamWriter(Console.OpenStandardOutput()) { AutoFlush = true };
    new FuzzChild(FuzzTarget.All(parse.GetValue(corpus)!), shared, answers).Serve(Console.In);
});

var only = new Option<string?>("--only");
var save = new Command("save") { folder, only };
save.Hidden = true;
save.SetAction(parse => parse.GetValue(only) is { } kind
    ? SaveLoop.SaveOnce(parse.GetValue(folder)!, kind, Console.Error)
    : SaveLoop.Run(parse.GetValue(folder)!, Console.Out));

root.Add(kill);
root.Add(child);
root.Add(save);
var line = root.Parse(args);
int code = await line.InvokeAsync();
return line.Errors.Count > 0 ? 2 : code;

int Fuzz(ParseResult parse, CancellationToken cancellationToken)
{
    string[] names = parse.GetValue(target) is { Length: > 0 } some ? some : [.. FuzzTarget.Names];
    if (parse.GetValue(replay) is { } file)
    {
        FuzzTarget one = FuzzTarget.All(parse.GetValue(corpus)!).Single(t => t.Name == names[0]);
        Exception? outcome = FuzzChild.Read(one, File.ReadAllBytes(file.FullName));
        Console.WriteLine(outcome is null ? "accepted" : outcome.ToString());
        return outcome is null or Tiller.TillerException ? 0 : 1;
    }

    var options = new FuzzOptions
    {
        Targets = names,
        Corpus = Path.GetFullPath(parse.GetValue(corpus)!),
        Out = Path.GetFullPath(parse.GetValue(output)!),
        Seed = parse.GetValue(seed) ?? Environment.TickCount,
        Count = parse.GetValue(count) ?? long.MaxValue,
        Duration = parse.GetValue(minutes) is { } m ? TimeSpan.FromMinutes(m) : parse.GetValue(count) is null
            ? TimeSpan.FromMinutes(1)
            : TimeSpan.MaxValue,
    };
    Console.Error.WriteLine($"seed {options.Seed}");
    using var run = new FuzzParent(options, Console.Error);
    run.Run(cancellationToken);
    if (parse.GetValue(json))
    {
        using Stream stream = Console.OpenStandardOutput();
        FuzzReport.WriteJson(stream, options, run);
    }
    else
    {
        FuzzReport.Write(Console.Out, options, run);
    }

    return run.Findings.All.Count > 0 ? 1 : 0;
}

int Kill(ParseResult parse, CancellationToken cancellationToken)
{
    int random = parse.GetValue(seed) ?? Environment.TickCount;
    int kills = (int)(parse.GetValue(count) ?? 1000);
    var clock = System.Diagnostics.Stopwatch.StartNew();
    var run = new KillRun(random);
    run.Run(kills, cancellationToken);
    Console.WriteLine(string.Create(
        CultureInfo.InvariantCulture,
        $"{kills:N0} kills in {clock.Elapsed.TotalSeconds:N0} s, seed {random}: {run.InTheMiddle:N0} while a temporary file was "
        + $"there, {run.Replaced:N0} changes of version; every file whole, nothing left behind."));
    return 0;
}
