using Tiller.Checkpoint;
using Tiller.Control;
using Tiller.Tokens;
using Tiller.Tool.Commands;
using Tiller.Tool.Output;

namespace Tiller.Tool.Running;

/// <summary>What a checkpoint holds.</summary>
/// <param name="Folder">Tensors and files; owned by the caller.</param>
/// <param name="Config">Shape and family.</param>
/// <param name="Tokenizer">Text to ids.</param>
/// <param name="Chat">Name of the chat format, or null.</param>
/// <param name="NoChat">Why there is no chat format, or null.</param>
/// <param name="NonFinite">How many values of each tensor are NaN or infinite; null if the weights were not read.</param>
internal sealed record CheckpointInspection(
    CheckpointFolder Folder, ModelConfig Config, Tokenizer Tokenizer, string? Chat, string? NoChat, IReadOnlyList<long>? NonFinite);

/// <summary><c>tiller inspect</c>.</summary>
internal static class InspectRun
{
    public static int Run(Terminal terminal, InspectRequest request, CancellationToken cancellationToken)
    {
        if (Directory.Exists(request.Path))
        {
            using var folder = CheckpointFolder.Open(request.Path);
            var inspection = Inspect(folder, request.Path, cancellationToken);
            if (request.Check)
            {
                inspection = inspection with { NonFinite = [.. folder.Tensors.Select(t => NonFiniteValues.Count(folder, t, cancellationToken))] };
            }

            if (request.Json)
            {
                CheckpointOutput.WriteJson(terminal, inspection);
            }
            else
            {
                CheckpointOutput.WriteText(terminal, inspection);
            }

            return inspection.NonFinite?.Sum() > 0 ? ExitCode.BadInput : ExitCode.Ok;
        }

        if (request.Check)
        {
            throw new UsageException("--check looks at the weights of a checkpoint: name its folder.");
        }

        if (!File.Exists(request.Path))
        {
            throw new FileNotFoundException($"{request.Path}: no such folder or file. Expected the folder of a checkpoint, or a controller file.");
        }

        var controller = Controller.Load(request.Path);
        if (request.Json)
        {
            ControllerOutput.WriteJson(terminal, controller);
        }
        else
        {
            ControllerOutput.WriteText(terminal, controller);
        }

        return ExitCode.Ok;
    }

    private static CheckpointInspection Inspect(CheckpointFolder folder, string directory, CancellationToken cancellationToken)
    {
        var config = ModelConfigReader.Read(directory);
        var tokenizer = Tokenizer.Load(directory, cancellationToken);
        tokenizer.CheckEmbedding(config.V);
        try
        {
            return new CheckpointInspection(folder, config, tokenizer, ChatFormat.Load(directory, tokenizer).Name, null, null);
        }
        catch (ChatException e)
        {
            return new CheckpointInspection(folder, config, tokenizer, null, OptionNames.Of(e.Message), null);
        }
    }
}
