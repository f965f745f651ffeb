using Tiller.Checkpoint;

namespace Tiller.Hub;

/// <summary>
/// Downloads a model from the Hugging Face hub, or from a server with the same protocol. It downloads config, tokenizer, chat templates and
/// safetensors, and no other file of the repository. The model goes into the cache of huggingface_hub, where Python and Tiller find it by name, or
/// into a plain folder.
/// </summary>
public static class HubPull
{
    private const int MaxAtOnce = 8;
    private const string ConfigName = "config.json";
    private const string TokenizerName = "tokenizer.json";
    private const string Templates = "additional_chat_templates/";
    private const string TemplateEnding = ".jinja";

    // Files that are downloaded if the model has them.
    private static readonly string[] s_texts = [ConfigName, "generation_config.json", TokenizerName, "tokenizer_config.json", "chat_template.jinja"];

    private static readonly string[] s_otherWeights = [".bin", ".gguf", ".pt", ".pth", ".h5", ".msgpack", ".onnx"];

    /// <summary>
    /// Downloads the missing files of a model, and checks the existing ones against the hub's hashes. An interrupted download continues where it
    /// stopped; two downloads at once share the work. In the cache, an older snapshot stays usable until the new one is complete. In a plain folder,
    /// each file is replaced as soon as it is complete.
    /// </summary>
    /// <param name="model">Name of the model, OWNER/NAME or OWNER/NAME@REVISION.</param>
    /// <param name="options">Revision, destination, address and token; null for the settings of the environment.</param>
    /// <param name="progress">Receives the progress of every file, from several threads.</param>
    /// <param name="cancellationToken">Ends the download. Received bytes are kept.</param>
    /// <exception cref="HubException">The model cannot be downloaded or written.</exception>
    /// <exception cref="CheckpointException">The index of the model's weights is malformed.</exception>
    public static async Task<PulledModel> RunAsync(
        string model, HubPullOptions? options = null, IProgress<HubPullProgress>? progress = null, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(model);
        options ??= new HubPullOptions();
        HubName name = Name(model, options.Revision);
        using var client = new HubClient(options);
        HubListing listing = await client.ListAsync(name, cancellationToken).ConfigureAwait(false);
        Check(name, listing);
        HubStore store = options.Folder is { } folder
            ? new HubFolderStore(Path.GetFullPath(folder))
            : new HubCacheStore(Path.GetFullPath(options.Cache ?? HubCache.Root), name, listing.Commit);
        var transfer = new HubTransfer(client, store, name, listing.Commit, progress);

        // The index and the other small files come first, because the index names the shards.
        bool isSingle = listing.Files.Contains(CheckpointFolder.SingleFileName);
        string[] texts = [.. s_texts.Where(listing.Files.Contains), .. listing.Files.Where(IsTemplate), .. isSingle ? []
            : new[] { CheckpointFolder.IndexFileName }];
        var (files, pulled) = await PullAsync(texts).ConfigureAwait(false);
        string[] weights = isSingle ? [CheckpointFolder.SingleFileName]
            : [.. CheckpointIndex.Read(store.ContentOf(files.Single(f => f.Name == CheckpointFolder.IndexFileName))).Shards];
        var (more, pulledMore) = await PullAsync(weights).ConfigureAwait(false);

        // A cancelled download must not be finished, so that it is never taken for a complete one.
        cancellationToken.ThrowIfCancellationRequested();
        try
        {
            store.Finish([.. files, .. more], s_texts.Where(text => !listing.Files.Contains(text)));
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw HubTransfer.Failure(e, store.Folder);
        }

        return new PulledModel(name.Repository, listing.Commit, store.Folder,
            [.. pulled.Concat(pulledMore).OrderBy(f => f.Name, StringComparer.Ordinal)]);

        async Task<(HubFile[] Files, PulledFile[] Pulled)> PullAsync(string[] names)
        {
            HubFile[] described = await EachAsync(names, (file, token) =>
                client.DescribeAsync(name, listing.Commit, file, token)).ConfigureAwait(false);
            CheckRoom(store.Folder, described.Aggregate(Int128.Zero, (sum, file) => sum + transfer.Missing(file)));
            return (described, await EachAsync(described, transfer.RunAsync).ConfigureAwait(false));
        }

        async Task<TResult[]> EachAsync<T, TResult>(T[] items, Func<T, CancellationToken, Task<TResult>> work)
        {
            var results = new TResult[items.Length];
            var parallel = new ParallelOptions { MaxDegreeOfParallelism = MaxAtOnce, CancellationToken = cancellationToken };
            await Parallel.ForAsync(0, items.Length, parallel, async (i, token) =>
                results[i] = await work(items[i], token).ConfigureAwait(false)).ConfigureAwait(false);
            return results;
        }
    }

    private static HubName Name(string model, string? revision)
    {
        HubName name = HubName.TryParse(model)
            ?? throw new HubException(HubError.Name, model, $"expected the name of a model on the hub, {HubName.Form}.");
        if (revision is not null && name.Revision is not null && revision != name.Revision)
        {
            throw new HubException(HubError.Name, model, $"the name has another revision than {Quoted.Text(revision)}: give one of them.");
        }

        return revision is null || HubName.IsRevision(revision)
            ? name with { Revision = revision ?? name.Revision ?? HubCache.Main }
            : throw new HubException(HubError.Name, model, $"expected a branch, a tag or a commit as revision, got {Quoted.Text(revision)}.");
    }

    // Checks that the model can be run before gigabytes of weights are downloaded.
    private static void Check(HubName name, HubListing listing)
    {
        foreach (string needed in new[] { ConfigName, TokenizerName })
        {
            if (!listing.Files.Contains(needed))
            {
                throw new HubException(
                    HubError.FileNotFound, name.ToString(),
                        $"the model has no {needed}, which is needed to run it. It has {Quoted.Some([.. listing.Files])}.");
            }
        }

        if (!listing.Files.Contains(CheckpointFolder.SingleFileName) && !listing.Files.Contains(CheckpointFolder.IndexFileName))
        {
            string[] others = [.. listing.Files.Where(file =>
                Array.Exists(s_otherWeights, ending => file.EndsWith(ending, StringComparison.Ordinal)))];
            throw new HubException(
                HubError.FileNotFound, name.ToString(),
                $"the model has neither {CheckpointFolder.SingleFileName} nor {CheckpointFolder.IndexFileName}; "
                + "weights are read from safetensors alone."
                + (others.Length > 0 ? $" It has {Quoted.Some(others)}." : ""));
        }
    }

    private static bool IsTemplate(string file) =>
        file.StartsWith(Templates, StringComparison.Ordinal) && file.EndsWith(TemplateEnding, StringComparison.Ordinal)
        && file[Templates.Length..^TemplateEnding.Length] is { Length: > 0 } stem && stem.All(c => char.IsAsciiLetterOrDigit(c) || c is '_' or '-');

    private static void CheckRoom(string folder, Int128 needed)
    {
        string? there = folder;
        while (there is not null && !Directory.Exists(there))
        {
            there = Path.GetDirectoryName(there);
        }

        long room;
        try
        {
            room = new DriveInfo(OperatingSystem.IsWindows() ? Path.GetPathRoot(there)! : there!).AvailableFreeSpace;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or ArgumentException)
        {
            return; // unknown: a full disk will fail the write
        }

        if (needed > room)
        {
            throw new HubException(
                HubError.NoRoom, folder,
                    $"the download needs {needed} bytes, but the disk has {room} free. Make room, or name a folder on another disk.");
        }
    }
}
