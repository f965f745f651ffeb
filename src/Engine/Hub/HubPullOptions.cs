using Tiller.Checkpoint;

namespace Tiller.Hub;

/// <summary>
/// Where a model comes from and where it goes. What is not set is what huggingface_hub takes: the environment variables HF_ENDPOINT, HF_TOKEN,
/// HF_TOKEN_PATH, HF_HUB_CACHE, HF_HOME and HF_HUB_OFFLINE.
/// </summary>
public sealed record HubPullOptions
{
    private const string PublicHub = "https://huggingface.co";
    private const int LongestToken = 1 << 14;

    /// <summary>A branch, a tag or a commit; null for the one in the model's name, or main.</summary>
    public string? Revision { get; init; }

    /// <summary>A plain folder to put the files in; null for the cache.</summary>
    public string? Folder { get; init; }

    /// <summary>The folder of the cache that all models share.</summary>
    public string? Cache { get; init; }

    /// <summary>Address of the hub: https or http, a host, and where the hub is below it.</summary>
    public Uri? Endpoint { get; init; }

    /// <summary>The token that the hub knows the user by; sent to the hub alone, never to where it redirects.</summary>
    public string? Token { get; init; }

    /// <summary>Pauses, and what tells that nothing comes any more.</summary>
    internal TimeProvider Time { get; init; } = TimeProvider.System;

    /// <summary>The address that is asked, without a slash at its end.</summary>
    /// <exception cref="HubException">It is none of a hub, or the environment forbids to ask any.</exception>
    internal Uri ResolveEndpoint()
    {
        (string source, string address) = ($"{nameof(HubPullOptions)}.{nameof(Endpoint)}", Endpoint?.OriginalString ?? "");
        if (Endpoint is null)
        {
            if (Environment.GetEnvironmentVariable("HF_HUB_OFFLINE") is { } offline && offline.ToUpperInvariant() is "1" or "ON" or "YES" or "TRUE")
            {
                throw new HubException(HubError.Name, "HF_HUB_OFFLINE", "the environment forbids to ask the hub: unset this variable to download.");
            }

            (source, address) = ("HF_ENDPOINT", Environment.GetEnvironmentVariable("HF_ENDPOINT") is { Length: > 0 } set ? set : PublicHub);
        }

        return Uri.TryCreate(address.TrimEnd('/'), UriKind.Absolute, out Uri? uri) && IsWeb(uri) && uri.Query.Length + uri.Fragment.Length == 0
            ? uri
            : throw new HubException(HubError.Name, source, $"expected an address https://… of a hub, got {Quoted.Text(address)}.");
    }

    /// <summary>The token, or null for none.</summary>
    /// <exception cref="HubException">It cannot be read, or cannot be one.</exception>
    internal string? ResolveToken()
    {
        string? token = Token ?? Environment.GetEnvironmentVariable("HF_TOKEN");
        string source = Token is not null ? nameof(HubPullOptions) : "HF_TOKEN";
        if (string.IsNullOrWhiteSpace(token))
        {
            source = Environment.GetEnvironmentVariable("HF_TOKEN_PATH") is { Length: > 0 } path ? path : Path.Combine(HubCache.Home, "token");
            token = ReadToken(source);
        }

        token = token?.Trim();
        return string.IsNullOrEmpty(token) ? null
            : token.AsSpan().ContainsAnyExceptInRange('!', '~')
                ? throw new HubException(HubError.Name, source, "holds no token: one has printable ASCII characters only, and no spaces.")
                : token;
    }

    /// <summary>Whether an address is one that HTTP can be spoken to.</summary>
    internal static bool IsWeb(Uri address) => address.Scheme == Uri.UriSchemeHttps || address.Scheme == Uri.UriSchemeHttp;

    private static string? ReadToken(string path)
    {
        try
        {
            return System.Text.Encoding.UTF8.GetString(BoundedFile.Read(
                path, LongestToken, length =>
                    new HubException(HubError.Name, path, $"holds no token: it has {length} bytes, expected at most {LongestToken}.")));
        }
        catch (Exception e) when (e is FileNotFoundException or DirectoryNotFoundException)
        {
            return null;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new HubException(HubError.InputOutput, path, "the token cannot be read: " + e.Message, e);
        }
    }
}
