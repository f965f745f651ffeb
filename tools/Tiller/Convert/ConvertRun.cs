using System.Text.Json.Serialization;
using Tiller.Checkpoint;
using Tiller.Controllers;
using Tiller.Model;

namespace Tiller.Tool;

/// <summary><c>tiller convert</c>.</summary>
internal static class ConvertRun
{
    private const int MaxSize = 64 << 20;

    // At once, whatever kind of file it is: a pipe would wait for a writer.
    private static byte[] Begin(string path)
    {
        byte[] begin = new byte[4];
        try
        {
            using var file = FileIdentity.OpenRegular(path);
            return begin[..RandomAccess.Read(file, begin, 0)];
        }
        catch (IOException e)
        {
            throw new IOException($"{VisibleText.Of(path)}: {e.Message}", e);
        }
    }

    public static int Run(Terminal terminal, ConvertRequest request, CancellationToken cancellationToken)
    {
        var destination = Destination.Of(terminal, "--out", request.Out, isText: false, request.Json, request.File);
        terminal = destination.Rest;
        byte[] begin = Begin(request.File);

        bool isGguf = ControlVectorFile.IsGguf(begin), isText = begin.Length > 0 && (begin[0] == '{' || char.IsWhiteSpace((char)begin[0]));
        Controller controller;
        if (isGguf || isText)
        {
            controller = Import(request, isGguf, cancellationToken);
            destination.Write(controller.Save, controller.Save);
        }
        else
        {
            if (request.Model is not null || request.Use is not null || request.Layers is not null)
            {
                throw new UsageException("A controller says what it does: leave out --model, --operation, --hook, --layer-offset and --layers.");
            }

            controller = Controller.Load(request.File);
            destination.Write(Export);
        }

        if (request.Json)
        {
            Json.Write(terminal.Output, new ConvertJson(request.Out, controller.Method.Name, controller.Method.Layers.ToString()),
                ConvertJsonContext.Default.ConvertJson);
        }
        else
        {
            terminal.Output.WriteLine($"{controller.Method.Name}, blocks {controller.Method.Layers}, written to {VisibleText.Of(destination.Name)}");
        }

        return ExitCode.Ok;

        void Export(Stream stream) => ControlVectorFile.Write(stream, controller);
    }

    private static Controller Import(ConvertRequest request, bool isGguf, CancellationToken cancellationToken)
    {
        string model = request.Model ?? throw new UsageException($"{request.File} does not say how wide and deep its model is: add --model DIR.");
        using var checkpoint = LoadableCheckpoint.Open(model, strict: false, cancellationToken);
        var (folder, c) = (checkpoint.Folder, checkpoint.Config);
        byte[] bytes = BoundedFile.Read(request.File, MaxSize, length => new CheckpointException(
            CheckpointError.LimitExceeded, request.File, "the vector is too long.", expected: $"at most {MaxSize} bytes", actual: $"{length}"));
        var use = request.Use ?? (isGguf ? ControlVectorFile.UseOf(bytes, c.L, c.D) : null) ?? throw new UsageException(
            $"{request.File} does not say what is done with its directions: add --operation add or ablate, and --hook and --layer-offset if they are "
            + "not output and 0. llama.cpp's control vectors are --operation add, activation-steering's "
            + "steering vectors --operation add --hook input.");
        return isGguf
            ? ControlVectorFile.Read(bytes, use, folder.Name, folder.Fingerprint, c.L, c.D, request.Layers)
            : SteeringVectorFile.Read(bytes, use, folder.Name, folder.Fingerprint, c.L, c.D, request.Layers);
    }
}

/// <summary>What <c>convert</c> prints.</summary>
internal sealed record ConvertJson(string Out, string Method, string Layers);

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.CamelCase, GenerationMode = JsonSourceGenerationMode.Serialization)]
[JsonSerializable(typeof(ConvertJson))]
internal sealed partial class ConvertJsonContext : JsonSerializerContext;
