using System.CommandLine;
using Tiller;
using Tiller.Bench;
using Tiller.Checkpoint;
using Tiller.Model;
using Tiller.Stress;

var minutes = new Option<double>("--minutes") { Description = "Length of the run.", DefaultValueFactory = _ => 5 };
var sessions = new Option<int>("--sessions") { Description = "Sessions that decode at once.", DefaultValueFactory = _ => 64 };
var shape = new Option<string>("--shape")
{
    Description = "Shape of a model with random weights.",
    HelpName = $"{string.Join('|', BenchShape.Names)}|L,D,FF,H,KV,E,V",
    DefaultValueFactory = _ => "demo",
};
var type = new StoredTypeOption();
var device = new Option<string?>("--device") { Description = "auto, cpu, cuda or cuda:N; TILLER_DEVICE sets the default." };
var threads = new Option<int>("--threads") { Description = "Threads that share one step on the CPU; 0 takes one per processor." };
var scheduler = new Option<bool>("--scheduler")
{
    Description = "Readers of one scheduler instead, as many as sessions: some leave, some never read, some change λ.",
};
var serve = new Option<bool>("--serve")
{
    Description = "Clients of one server over HTTP instead: streams, as many as sessions, whose clients leave or move λ, and clients that never "
        + "read.",
};
var slow = new Option<int>("--slow-readers") { Description = "With --serve: clients that never read, in all.", DefaultValueFactory = _ => 500 };
var cancels = new Option<int>("--cancels") { Description = "With --serve: clients that leave, at least.", DefaultValueFactory = _ => 1000 };
var model = new Option<string>("--model")
{
    Description = "With --serve: folder of a checkpoint with contrast prompts.",
    HelpName = "DIR",
    DefaultValueFactory = _ => "models/demo",
};
var json = new Option<bool>("--json") { Description = "Report as a JSON object." };
var markdown = new Option<bool>("--markdown") { Description = "Report as a Markdown table." };
foreach (var count in new[] { slow, cancels })
{
    count.Validators.Add(result => Check(result.GetValueOrDefault<int>() >= 0, result, $"{count.Name} must be a whole number, 0 or more."));
}

minutes.Validators.Add(result => Check(result.GetValueOrDefault<double>() is > 0 and <= 1440, result, "--minutes must be above 0 and at most 1440."));
sessions.Validators.Add(result => Check(result.GetValueOrDefault<int>() is > 0 and <= 4096, result,
    "--sessions must be a whole number from 1 to 4096."));

var root = new RootCommand(
    "Lets many sessions decode at once on one model, alone and in batches, under several controllers, cancelled at random: each must give, "
    + "bit for bit, what it gives alone, memory must not grow, and nothing may hang. Exit code 1 if anything was wrong.")
{
    minutes, sessions, shape, type, device, threads, scheduler, serve, slow, cancels, model, json, markdown,
};
root.SetAction(async (parse, cancellationToken) =>
{
    try
    {
        var request = new StressRequest
        {
            Shape = BenchShape.Parse(parse.GetValue(shape)!),
            Type = parse.GetValue(type) ?? TensorType.BF16,
            Device = parse.GetValue(device) is { } name ? Device.Parse(name) : null,
            Threads = parse.GetValue(threads),
            Minutes = parse.GetValue(minutes),
            Sessions = parse.GetValue(sessions),
            Json = parse.GetValue(json),
            Markdown = parse.GetValue(markdown),
        };
        if (parse.GetValue(serve))
        {
            var plan = new ServeStormPlan
            {
                Streams = request.Sessions,
                SlowReaders = parse.GetValue(slow),
                Cancels = parse.GetValue(cancels),
                Time = TimeSpan.FromMinutes(request.Minutes),
            };
            var served = await ServeStorm.Run(parse.GetValue(model)!, request.Device, request.Threads, plan, cancellationToken);
            StressOutput.Write(request, served, Console.Out);
            return served.Failures.Count == 0 ? 0 : 1;
        }

        if (parse.GetValue(scheduler))
        {
            var storm = await SchedulerStorm.Run(request, cancellationToken);
            StressOutput.Write(request, storm, Console.Out);
            return storm.Failures.Count == 0 ? 0 : 1;
        }

        var report = StressRun.Run(request, cancellationToken);
        StressOutput.Write(request, report, Console.Out);
        return report.Counts.Failures.Count == 0 ? 0 : 1;
    }
    catch (TillerException e)
    {
        Console.Error.WriteLine($"tiller-stress: {e.Message}");
        return 2;
    }
});
return await root.Parse(args).InvokeAsync();

static void Check(bool holds, System.CommandLine.Parsing.SymbolResult result, string message)
{
    if (!holds)
    {
        result.AddError(message);
    }
}
