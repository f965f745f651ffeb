namespace Tiller.Tests.Hub;

/// <summary>Sets the environment variables that name the hub, its cache and its token for one test.</summary>
internal sealed class HubVariables : IDisposable
{
    private static readonly string[] s_names =
        ["HF_ENDPOINT", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME", "HF_TOKEN", "HF_TOKEN_PATH", "HF_HUB_OFFLINE"];

    private readonly string?[] _before = [.. s_names.Select(Environment.GetEnvironmentVariable)];

    /// <summary>Sets these variables and unsets the others.</summary>
    public HubVariables(params (string Name, string Value)[] set)
    {
        foreach (string name in s_names)
        {
            Environment.SetEnvironmentVariable(name, null);
        }

        foreach (var (name, value) in set)
        {
            Environment.SetEnvironmentVariable(name, value);
        }
    }

    public void Dispose()
    {
        for (int i = 0; i < s_names.Length; i++)
        {
            Environment.SetEnvironmentVariable(s_names[i], _before[i]);
        }
    }
}
