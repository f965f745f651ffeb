using Tiller;
using Tiller.Real;

const string Usage =
    """
    usage: dotnet run -c Release --project tools/real -- SmolLM2-135M-Instruct.Q4_1.gguf OUT
           dotnet run -c Release --project tools/real -- study MODEL DATA OUT.jsonl [TASK …]
    TASK: sentiment, refusal, compliance, answers, answers-harmless, sycophancy, truthfulness; all of them by default
    """;

try
{
    switch (args)
    {
        case ["study", var model, var data, var output, .. var tasks]:
            Study.Run(model, data, output, tasks);
            return 0;
        case [var gguf, var folder]:
            Console.WriteLine($"{folder}: {Unpacking.Run(gguf, folder)} tensors, SHA-256 {Unpacking.Sha256}");
            return 0;
        default:
            Console.Error.WriteLine(Usage);
            return 2;
    }
}
catch (Exception e) when (e is TillerException or IOException or UnauthorizedAccessException or ArgumentException)
{
    Console.Error.WriteLine($"tiller-real: error: {e.Message}");
    return 4;
}
