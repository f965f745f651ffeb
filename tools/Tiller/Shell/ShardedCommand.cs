using System.Text.Json;
using System.Text.Json.Serialization;
using Tiller.Synthesis;

namespace Tiller.Tool;

/// <summary>A command whose work is divided among shards, as it is kept with what they measured, so that <c>tiller merge</c> can end it.</summary>
/// <param name="Words">The command's options and their values.</param>
/// <param name="Directory">The folder in which it was given, from which relative paths lead.</param>
internal sealed record ShardedCommand(IReadOnlyList<string> Words, string Directory)
{
    /// <summary>Hashes of files whose content is not part of the measurement's own identity.</summary>
    public IReadOnlyList<string> Files { get; init; } = [];

    /// <summary>Reads a command that was kept.</summary>
    /// <exception cref="ShardException">It is none.</exception>
    public static ShardedCommand Read(string text)
    {
        try
        {
            return JsonSerializer.Deserialize(text, ShardedCommandContext.Default.ShardedCommand) is { Words: not null, Directory: not null } command
                && command.Words.All(static word => word is not null)
                    ? command : throw new ShardException("The shards were not written by a command of tiller: put them together by the library.");
        }
        catch (JsonException e)
        {
            throw new ShardException("The shards were not written by a command of tiller: put them together by the library.", e);
        }
    }

    /// <summary>A path as it was meant.</summary>
    public string PathOf(string path) => Path.GetFullPath(path, Directory);

    /// <summary>A folder as it was meant, or a name that is none.</summary>
    public string FolderOf(string name) => System.IO.Directory.Exists(PathOf(name)) ? PathOf(name) : name;

    /// <inheritdoc/>
    public override string ToString() => JsonSerializer.Serialize(this, ShardedCommandContext.Default.ShardedCommand);
}

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.CamelCase)]
[JsonSerializable(typeof(ShardedCommand))]
internal sealed partial class ShardedCommandContext : JsonSerializerContext;
