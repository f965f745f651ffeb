using System.CommandLine;
using System.Numerics;
using Tiller;
using Tiller.Bench;
using Tiller.Checkpoint;
using Tiller.Model;
using Tiller.Stress;

var minutes = Number("--minutes", "Length of the run.", 5.0, n => n is > 0 and <= 1440, "a number above 0 and at most 1440");
var sessions = Number("--sessions", "Sessions that decode at once.", 64, n => n is > 0 and <= 4096, "a whole number from 1 to 4096");
var shape = new Option<string>("--shape")
{
    Description = "Shape of a model with random weights.",
    HelpName = $"{string.Join('|', BenchShape.Names)}|L,D,FF,H,KV,E,V",
    DefaultValueFactory = _ => "demo",
};
var type = new StoredTypeOption();
var device = new Option<string?>("--device") { Description = "auto, cpu, cuda or cuda:N; TILLER_DEVICE sets the default." };
var threads = Number(
    "--threads", "Threads that share one step on the CPU; 0 takes one per processor.", 0, n => n is >= 0 and <= 1024, "a whole number, 0 to 1024");
var scheduler = new Option<bool>("--scheduler")
{
    Description = "Readers of one scheduler instead, as many as sessions: some leave, some never read, some change λ.",
};
var serve = new Option<bool>("--serve")
{
    Description = "Clients of one server over HTTP instead: streams, as many as sessions, whose clients leave or move λ, and clients that never "
        + "read.",
};
var slow = Number("--slow-readers", "With --serve: clients that never read, in all.", 500, n => n >= 0, "a whole number, 0 or more");
var cancels = Number("--cancels", "With --serve: clients that leave, at least.", 1000, n => n >= 0, "a whole number, 0 or more");
var model = new Option<string>("--model")
{
    Description = "With --serve: folder of a checkpoint with contrast prompts.",
    HelpName = "DIR",
    DefaultValueFactory = _ => "models/demo",
};
var json = new Option<bool>("--json") { Description = "Report as a JSON object." };
var markdown = new Option<bool>("--markdown") { Description = "Report as a Markdown table." };
var root = new RootCommand(
    "Lets many sessions decode at once on one model, alone and in batches, under several controllers, cancelled at random: each must give, "
    + "bit for bit, what it gives alone, memory must not grow, and nothing may hang. Exit code 1 if it was not so, 2 if the "
    + "command line is wrong.")
{
    minutes, sessions, shape, type, device, threads, scheduler, serve, slow, cancels, model, json, markdown,
};
root.Validators.Add(result =>
{
    if (result.GetValue(scheduler) && result.GetValue(serve))
    {
        result.AddError("--scheduler and --serve are two kinds of run: give one of them.");
    }
});
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
var line = root.Parse(args);
int code = await line.InvokeAsync();
return line.Errors.Count > 0 ? 2 : code;

static Option<T> Number<T>(string name, string description, T standard, Func<T, bool> valid, string expected)
    where T : struct, INumber<T> => new(name)
    {
        Description = description,
        DefaultValueFactory = _ => standard,
        CustomParser = result => TypedNumber.Read(result, name, result.Tokens[^1].Value, valid, expected).GetValueOrDefault(),
    };
