using Tiller.Checkpoint;
using Tiller.Control;
using Tiller.Decode;
using Tiller.Tool.Commands;
using Tiller.Tool.Output;

namespace Tiller.Tool.Running;

/// <summary><c>tiller steer</c>: the laws of all controllers, each at its λ, summed into one.</summary>
internal static class SteerRun
{
    public static async Task<int> Run(Terminal terminal, SteerRequest request, CancellationToken cancellationToken)
    {
        var destination = request.Trace is null ? null : Destination.Of(terminal, "--trace", request.Trace, isText: true, request.Json);
        terminal = destination?.Rest ?? terminal;
        var law = Law(request);
        string prompt = await GenerateRun.ReadPrompt(terminal, request.Prompt, cancellationToken);
        using var model = Runs.Load(terminal, request.Model, request.Device, cancellationToken);
        int[] ids = GenerateRun.Tokenize(model, request.Prompt, prompt, cancellationToken);
        var options = GenerateRun.Options(model, request.Prompt, request.Decoding);
        var texts = new List<(string, DecodedText)>();
        if (request.Compare)
        {
            var plain = Decode("plain", options);
            texts.Add(("plain", plain));

            // What differs between the two is the controllers, not the draws.
            options = options with { Sampling = options.Sampling with { Seed = plain.Seed ?? options.Sampling.Seed } };
        }

        var trace = destination is null ? null : new SteeringTrace(law);
        texts.Add(("steered", Decode(Label(request), options with { Law = law, SteeredTokens = request.Tokens, Trace = trace })));
        destination?.Write(trace!.Write, trace!.Write);
        if (request.Json)
        {
            DecodedOutput.WriteJson(terminal, model.Name, texts, request.Controllers);
        }

        return ExitCode.Ok;

        DecodedText Decode(string label, GenerationOptions how)
        {
            if (request.Compare && !request.Json)
            {
                terminal.Output.WriteLine($"--- {label}");
            }

            return GenerateRun.Decode(terminal, model, ids, how, request.Json, cancellationToken);
        }
    }

    /// <summary>Loads the controllers and refuses those of another model, before any weight is read.</summary>
    private static FeedbackLaw Law(SteerRequest request)
    {
        (Controller Controller, double Lambda)[] controllers = [.. request.Controllers.Select(c => (Controller.Load(c.Controller), (double)c.Lambda))];
        using var folder = CheckpointFolder.Open(request.Model);
        var config = ModelConfigReader.Read(request.Model);
        string name = Path.GetFileName(Path.TrimEndingDirectorySeparator(Path.GetFullPath(request.Model)));
        foreach (var (controller, _) in controllers)
        {
            controller.CheckModel(name, folder.Fingerprint, config.L, config.D);
        }

        return FeedbackLaw.Sum([.. controllers.Select(c => c.Controller.ToLaw(c.Lambda, request.MaxEffort))]);
    }

    private static string Label(SteerRequest request) =>
        "steered: " + string.Join(", ", request.Controllers.Select(c => $"{VisibleText.Of(Path.GetFileName(c.Controller))} λ {c.Lambda}"));
}
