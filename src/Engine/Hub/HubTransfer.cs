using System.Net;
using Tiller.Checkpoint;

namespace Tiller.Hub;

/// <summary>
/// Downloads one file. The content grows under a temporary name, from where an earlier attempt stopped. It gets its own name once it is complete and
/// its hash is right. Content with a wrong hash is deleted.
/// </summary>
internal sealed class HubTransfer(HubClient client, HubStore store, HubName name, string commit, IProgress<HubPullProgress>? progress)
{
    private const int BufferSize = 1 << 18;

    // After a wrong hash the download starts again from nothing. A second wrong hash cannot be due to an older partial file.
    private const int MaxWrongContents = 2;

    /// <summary>Makes sure that the content exists and is right.</summary>
    /// <exception cref="HubException">The file cannot be downloaded or written.</exception>
    public async Task<PulledFile> RunAsync(HubFile file, CancellationToken cancellationToken)
    {
        string content = store.ContentOf(file), part = store.PartOf(file), held = store.LockOf(file);
        try
        {
            foreach (string path in new[] { content, part, held })
            {
                Directory.CreateDirectory(Path.GetDirectoryName(path)!);
            }

            using IDisposable hold = await FileLock.TakeAsync(
                held, client.PauseAsync, () => Report(file, HubPullStage.Waiting, 0), cancellationToken).ConfigureAwait(false);
            bool isNew = !await IsRightAsync(content, file, cancellationToken).ConfigureAwait(false);
            if (isNew)
            {
                await FetchAsync(file, part, cancellationToken).ConfigureAwait(false);
                File.Move(part, content, overwrite: true);
            }

            return new PulledFile(file.Name, file.SizeInBytes, file.HasHash, isNew);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or ArgumentOutOfRangeException { ParamName: "value" })
        {
            throw Failure(e, content);
        }
    }

    /// <summary>Number of bytes that a file still needs on the disk.</summary>
    public long Missing(HubFile file)
    {
        var (content, part) = (new FileInfo(store.ContentOf(file)), new FileInfo(store.PartOf(file)));
        return content.Exists && Length(content) == file.SizeInBytes ? 0
            : file.SizeInBytes - (part.Exists ? Math.Min(Length(part), file.SizeInBytes) : 0);

        static long Length(FileInfo file) => file.LinkTarget is null ? file.Length : 0;
    }

    /// <summary>Creates the exception for a failure to write.</summary>
    public static HubException Failure(Exception error, string path)
    {
        const int NoSpaceUnix = 28, QuotaLinux = 122, NoSpaceWindows = unchecked((int)0x80070070);
        return error.HResult is NoSpaceUnix or QuotaLinux or NoSpaceWindows || error is ArgumentException // .NET throws this for EFBIG
            ? new HubException(
                HubError.NoRoom, path, "the disk is full. Received bytes are kept: make room, and the next attempt continues from there.", error)
            : new HubException(HubError.InputOutput, path, "cannot be written: " + error.Message, error);
    }

    private async Task FetchAsync(HubFile file, string part, CancellationToken cancellationToken)
    {
        for (int wrong = 0; ;)
        {
            long came = 0;
            bool right = await client.RetryAsync(
                token => AttemptAsync(file, part, n => came += n, token), cancellationToken, () => came).ConfigureAwait(false);
            if (right)
            {
                return;
            }

            File.Delete(part);
            if (++wrong == MaxWrongContents)
            {
                throw new HubException(
                    HubError.WrongContent, $"{name.Repository}, {file.Name}",
                        $"expected content with the hash {file.Tag}, got other content twice. It was deleted.");
            }
        }
    }

    // Appends to the partial file until it is complete; false if its content is wrong.
    private async Task<bool> AttemptAsync(HubFile file, string part, Action<int> came, CancellationToken cancellationToken)
    {
        string subject = $"{name.Repository}, {file.Name}";
        await using var stream = new FileStream(part, FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.Read, bufferSize: 0);
        using ContentHash hash = file.Hash();
        var buffer = new byte[BufferSize];
        long done = await TakeAsync(stream, file, hash, buffer, cancellationToken).ConfigureAwait(false);
        if (done >= file.SizeInBytes)
        {
            return done == file.SizeInBytes && file.Is(hash);
        }

        using HttpResponseMessage response = await client.OpenAsync(name, commit, file.Name, done, cancellationToken).ConfigureAwait(false);
        if (done > 0 && (response.StatusCode != HttpStatusCode.PartialContent || response.Content.Headers.ContentRange?.From != done))
        {
            done = 0;
            stream.SetLength(0);
            hash.Restart();
        }

        // A response with the whole file is accepted instead of the rest. Any other part is a temporary error of the hub.
        if (done == 0 && response.StatusCode != HttpStatusCode.OK)
        {
            throw new HubException(HubError.Protocol, subject,
                $"the hub answers with another part of the file ({(int)response.StatusCode}).")
            { Passes = true };
        }

        await using Stream content = await response.Content.ReadAsStreamAsync(cancellationToken).ConfigureAwait(false);
        for (int read; (read = await client.ReadAsync(content, buffer, subject, cancellationToken).ConfigureAwait(false)) > 0;)
        {
            if (read > file.SizeInBytes - done)
            {
                return false;
            }

            await stream.WriteAsync(buffer.AsMemory(0, read), cancellationToken).ConfigureAwait(false);
            hash.Append(buffer.AsSpan(0, read));
            done += read;
            came(read);
            Report(file, HubPullStage.Fetching, done);
        }

        if (done < file.SizeInBytes)
        {
            throw new HubException(HubError.Unreachable, subject,
                $"the connection ended after {done} of {file.SizeInBytes} bytes.")
            { Passes = true };
        }

        stream.Flush(flushToDisk: true);
        return file.Is(hash);
    }

    private async Task<bool> IsRightAsync(string content, HubFile file, CancellationToken cancellationToken)
    {
        if (!File.Exists(content))
        {
            return false;
        }

        await using var stream = new FileStream(content, FileMode.Open, FileAccess.Read, FileShare.ReadWrite | FileShare.Delete, bufferSize: 0);
        using ContentHash hash = file.Hash();
        return stream.Length == file.SizeInBytes
            && (!file.HasHash
                || (await TakeAsync(stream, file, hash, new byte[BufferSize], cancellationToken).ConfigureAwait(false) == file.SizeInBytes
                && file.Is(hash)));
    }

    // Hashes the content of a file and leaves the stream at its end. Returns its length.
    private async Task<long> TakeAsync(FileStream stream, HubFile file, ContentHash hash, byte[] buffer, CancellationToken cancellationToken)
    {
        long length = stream.Length, done = 0;
        for (int read = -1; done < length && read != 0; done += read)
        {
            read = await stream.ReadAsync(buffer.AsMemory(0, (int)Math.Min(buffer.Length, length - done)), cancellationToken).ConfigureAwait(false);
            hash.Append(buffer.AsSpan(0, read));
            Report(file, HubPullStage.Checking, done + read);
        }

        return done;
    }

    private void Report(HubFile file, HubPullStage stage, long done) =>
        progress?.Report(new HubPullProgress(file.Name, stage, done, file.SizeInBytes));
}
