using Tiller.Chat;
using Tiller.Checkpoint;
using Tiller.Tokens;

namespace Tiller.Model;

/// <summary>
/// A checkpoint whose files have been read and checked, except for the values of the weights. Both loading and inspecting a checkpoint start from it.
/// </summary>
internal sealed class LoadableCheckpoint : IDisposable
{
    private LoadableCheckpoint(CheckpointFolder folder, ModelConfig config, Tokenizer tokenizer, TokenizerConfig text, IReadOnlyList<string> warnings)
    {
        (Folder, Config, Tokenizer, Warnings) = (folder, config, tokenizer, warnings);
        string directory = folder.Path;
        Chat = new Lazy<ChatFormat>(() => ChatFormat.Of(text, directory, tokenizer, TimeProvider.System));
        EndIds = new Lazy<IReadOnlyList<int>>(() => Ends(config, tokenizer, text, Chat));
    }

    /// <summary>The open files.</summary>
    public CheckpointFolder Folder { get; }

    /// <summary>Shape and family of the model.</summary>
    public ModelConfig Config { get; }

    /// <summary>Turns text into ids, limited to ids for which the embedding has rows.</summary>
    public Tokenizer Tokenizer { get; }

    /// <summary>Turns chat messages into ids; throws a <see cref="ChatException"/> if there is no usable template.</summary>
    public Lazy<ChatFormat> Chat { get; }

    /// <summary>Ids that end a text; see <see cref="LanguageModel.EndIds"/>.</summary>
    public Lazy<IReadOnlyList<int>> EndIds { get; }

    /// <summary>Harmless peculiarities of the files, one sentence each.</summary>
    public IReadOnlyList<string> Warnings { get; }

    /// <summary>Opens a checkpoint and checks that it can be loaded.</summary>
    /// <param name="directory">As for <see cref="CheckpointFolder.Open"/>.</param>
    /// <param name="strict">As <see cref="LoadOptions.Strict"/>.</param>
    /// <param name="cancellationToken">Checked between files.</param>
    /// <exception cref="TillerException">A file is missing, malformed or of an unknown family, or the files do not belong together.</exception>
    public static LoadableCheckpoint Open(string directory, bool strict, CancellationToken cancellationToken)
    {
        var folder = CheckpointFolder.Open(directory);
        try
        {
            var config = ModelConfigReader.Read(folder.Path);
            string[] unused = ModelWeights.Check(folder, config);
            var tokenizer = Tokenizer.Load(folder.Path, cancellationToken).ForEmbedding(config.V);
            tokenizer = strict ? tokenizer.ToStrict() : tokenizer;
            var text = TokenizerConfig.Read(folder.Path);
            List<string> warnings = [.. folder.Warnings];
            if (config.IsPartOfMultimodal)
            {
                string[] ofImages = [.. unused.Where(IsOfImages)];
                unused = [.. unused.Except(ofImages, StringComparer.Ordinal)];
                string leftOut = $"the {ofImages.Length} tensors of its vision tower are left out";
                warnings.Add($"The checkpoint also reads images: its text model is loaded, {leftOut}.");
            }

            if (unused.Length > 0)
            {
                bool tied = config.TiedHead && unused.Contains(ModelWeights.HeadName);
                string why = tied ? " The head is the embedding, as tie_word_embeddings says." : "";
                warnings.Add($"Not used by the model: {Quoted.Some(unused)}.{why}");
            }

            warnings.AddRange(tokenizer.Warnings);
            if (text.Eos.Length > 0 && tokenizer.IdOf(text.Eos) is null)
            {
                warnings.Add($"tokenizer_config.json has the eos_token {Quoted.Text(text.Eos)}, which tokenizer.json lacks: no text ends there.");
            }

            return new LoadableCheckpoint(folder, config, tokenizer, text, warnings);
        }
        catch
        {
            folder.Dispose();
            throw;
        }
    }

    /// <inheritdoc/>
    public void Dispose() => Folder.Dispose();

    private static bool IsOfImages(string name) =>
        name.Contains("vision_tower.", StringComparison.Ordinal) || name.Contains("multi_modal_projector.", StringComparison.Ordinal);

    // All sources are combined, because each of them is missing in some checkpoints. An id without a row in the head is never drawn.
    private static int[] Ends(ModelConfig config, Tokenizer tokenizer, TokenizerConfig text, Lazy<ChatFormat> chat)
    {
        IEnumerable<int> ids = config.EosIds;
        if (text.Eos.Length > 0 && tokenizer.IdOf(text.Eos) is { } eos)
        {
            ids = ids.Append(eos);
        }

        if (text.Templates.Count > 0)
        {
            try
            {
                ids = ids.Concat(chat.Value.StopIds);
            }
            catch (ChatException)
            {
                // An unusable template adds no stop ids. A caller that asks for a chat gets the exception.
            }
        }

        return [.. ids.Where(id => id < config.V).Distinct()];
    }
}
