using System.CommandLine;
using Tiller;
using Tiller.Bench;
using Tiller.Checkpoint;
using Tiller.Cpu;
using Tiller.Model;
using Tiller.Peers;

var shape = new Option<string>("--shape")
{
    Description = "Shape of a Llama with random weights.",
    HelpName = "demo|smollm2-135m|llama-3.2-1b|llama-3-8b|L,D,FF,H,KV,E,V",
    DefaultValueFactory = _ => "llama-3.2-1b",
};
var checkpoint = new Option<DirectoryInfo?>("--model") { Description = "Folder of a checkpoint of the Llama family, instead of random weights." };
var type = new StoredTypeOption();
var batches = new Option<int[]>("--batch")
{
    Description = "Numbers of sequences that are stepped together.",
    DefaultValueFactory = _ => [1, 8, 16, 64],
    AllowMultipleArgumentsPerToken = true,
};
var prefill = new Option<int[]>("--prefill")
{
    Description = "Lengths of prompts, in tokens.",
    DefaultValueFactory = _ => [512],
    AllowMultipleArgumentsPerToken = true,
};
var context = new Option<int>("--context") { Description = "Number of tokens before a step.", DefaultValueFactory = _ => 128 };
var threads = new Option<int>("--threads") { Description = "Number of threads of each engine; 0 for one per processor." };
var seconds = new Option<double>("--seconds") { Description = "Time for each row, in seconds.", DefaultValueFactory = _ => 10 };
var narrow = new Option<bool>("--avx2") { Description = "Use vectors of 256 bits in both engines, even if the processor has AVX-512." };
var markdown = new Option<bool>("--markdown") { Description = "Print a Markdown table." };

var root = new RootCommand(
    "Times tiller beside llama.cpp (LLamaSharp) on the same weights, in turn, with the limits of the machine from the same run. A ratio above 1 "
    + "means that tiller is faster. Random weights are written to the temporary folder, as a checkpoint and as GGUF, and deleted at the end.")
{
    shape, checkpoint, type, batches, prefill, context, threads, seconds, narrow, markdown,
};
root.SetAction((parse, cancellationToken) => Task.FromResult(Run(parse, cancellationToken)));
var line = root.Parse(args);
int code = await line.InvokeAsync();
return line.Errors.Count > 0 ? 2 : code;

int Run(ParseResult parse, CancellationToken cancellationToken)
{
    string folder = Directory.CreateTempSubdirectory("tiller-peers-").FullName;
    try
    {
        var request = new BenchRequest
        {
            Mode = BenchMode.Batch,
            Shape = parse.GetValue(checkpoint) is { } named ? BenchShape.Of(named) : BenchShape.Parse(parse.GetValue(shape)!),
            Type = parse.GetValue(type) ?? TensorType.BF16,
            Context = parse.GetValue(context),
            Device = Device.Cpu,
            Threads = parse.GetValue(threads),
            Seconds = parse.GetValue(seconds),
            Markdown = parse.GetValue(markdown),
            DemoFolder = Path.Combine(AppContext.BaseDirectory, "models", "demo"),
        };
        if (parse.GetValue(narrow))
        {
            Avx512.Code = Avx512Code.None;
        }

        bool wide = Avx512.Code != Avx512Code.None;
        LlamaCpp.Choose(wide);
        string model = parse.GetValue(checkpoint)?.FullName ?? folder;
        if (model == folder)
        {
            RandomCheckpoint.Write(folder, request);
        }

        string gguf = Path.Combine(folder, "model.gguf");
        LlamaGguf.Write(model, gguf);
        using var meter = new Meter(Machine.Open(request), request.Seconds, cancellationToken);
        using var rows = new PeerRows(
            LanguageModel.Load(model, request.LoadOptions, cancellationToken), LlamaGguf.TypeOf(model), new LlamaCpp(gguf, request.ThreadCount),
            meter, request.ContextLength);
        Console.Error.WriteLine(FormattableString.Invariant(
            $"{(wide ? "AVX-512" : "AVX2")}, {request.ThreadCount} threads; the logits of both engines correlate by {rows.Check():0.00000}"));
        var check = new CeilingCheck();
        var measured = parse.GetValue(batches)!.SelectMany(rows.Batch).Concat(parse.GetValue(prefill)!.SelectMany(rows.Prefill));
        BenchOutput.Write(request, measured.Select(check.Pass), Console.Out);
        check.End();
        return 0;
    }
    catch (TillerException e)
    {
        Console.Error.WriteLine(e.Message);
        return 1;
    }
    finally
    {
        Directory.Delete(folder, recursive: true);
    }
}
