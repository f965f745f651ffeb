using System.CommandLine;
using Tiller.Checkpoint;

namespace Tiller.Bench;

/// <summary>The option <c>--dtype</c>: one of the types in which the engine keeps weights. Null, the default, means bf16.</summary>
internal sealed class StoredTypeOption : Option<TensorType?>
{
    private static readonly TensorType[] s_types = [TensorType.BF16, TensorType.F16, TensorType.F32];

    /// <summary>Creates the option.</summary>
    public StoredTypeOption()
        : base("--dtype")
    {
        Description = $"Stored type of the weights. [default: {NameOf(TensorType.BF16)}]";
        HelpName = string.Join('|', s_types.Select(NameOf));
        CustomParser = result =>
        {
            string name = result.Tokens[^1].Value;
            int i = Array.FindIndex(s_types, type => NameOf(type) == name);
            if (i >= 0)
            {
                return s_types[i];
            }

            result.AddError($"--dtype must be one of {string.Join(", ", s_types.Select(NameOf))}, got '{name}'.");
            return null;
        };
    }

    private static string NameOf(TensorType type) => type.ToString().ToLowerInvariant();
}
