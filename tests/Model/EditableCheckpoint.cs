using System.Text.Json.Nodes;
using Tiller.Checkpoint;
using Tiller.Tests.Checkpoint;

namespace Tiller.Tests.Model;

/// <summary>A golden checkpoint that can be changed before it is loaded; it is saved to its own folder, as one file.</summary>
internal sealed class EditableCheckpoint : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public EditableCheckpoint(string family)
    {
        string from = TestModels.Folder(family);
        foreach (string file in Directory.GetFiles(from).Where(f => !Path.GetFileName(f).Contains("safetensors", StringComparison.Ordinal)))
        {
            File.Copy(file, _folder[Path.GetFileName(file)]);
        }

        using var source = CheckpointFolder.Open(from);
        foreach (var tensor in source.Tensors)
        {
            byte[] data = new byte[tensor.SizeInBytes];
            source.Read(tensor, 0, data);
            Tensors.Add(tensor.Name, new TensorData(tensor.Name, tensor.Type, [.. tensor.Shape], data));
        }

        Config = JsonNode.Parse(File.ReadAllText(_folder["config.json"]))!.AsObject();
    }

    public JsonObject Config { get; }

    public Dictionary<string, TensorData> Tensors { get; } = new(StringComparer.Ordinal);

    public string this[string name] => _folder[name];

    /// <summary>Writes the changes and returns the folder.</summary>
    public string Save()
    {
        File.WriteAllText(_folder["config.json"], Config.ToJsonString());
        SafetensorsWriter.Write(_folder["model.safetensors"], new Dictionary<string, string>(StringComparer.Ordinal), [.. Tensors.Values]);
        return _folder.Path;
    }

    public void Dispose() => _folder.Dispose();
}
