using System.Text.Json;
using System.Text.Json.Serialization;
using Tiller.Synthesis;

namespace Tiller.Tool;

/// <summary>A command whose work is divided among shards, as it is kept with what they measured, so that <c>tiller merge</c> can end it.</summary>
/// <param name="Words">The command's options and their values.</param>
internal sealed record ShardedCommand(IReadOnlyList<string> Words)
{
    /// <summary>Hashes of files whose content is not part of the measurement's own identity.</summary>
    public IReadOnlyList<string> Files { get; init; } = [];

    /// <summary>
    /// The folder from which relative paths lead. It is kept as the origin of the shards, which may be of different machines: what the paths name is
    /// compared by its content.
    /// </summary>
    [JsonIgnore]
    public string Directory { get; init; } = Environment.CurrentDirectory;

    /// <summary>Reads the command that shards were given.</summary>
    /// <param name="text">What <see cref="ToString"/> gave.</param>
    /// <param name="directories">
    /// The folders in which it was given. If there are several, or the one is not on this machine, paths lead from the current folder.
    /// </param>
    /// <exception cref="ShardException">It is none.</exception>
    public static ShardedCommand Read(string text, IReadOnlyCollection<string> directories)
    {
        try
        {
            var command = JsonSerializer.Deserialize(text, ShardedCommandContext.Default.ShardedCommand);
            if (command is not { Words: not null } || command.Words.Any(static word => word is null))
            {
                throw new ShardException("The shards were not written by a command of tiller: put them together by the library.");
            }

            return directories.Count == 1 && System.IO.Directory.Exists(directories.First())
                ? command with { Directory = directories.First() } : command;
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
