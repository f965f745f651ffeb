using Tiller.Chat;
using Tiller.Checkpoint;
using Tiller.Cuda;
using Tiller.Kernels;
using Tiller.Law;
using Tiller.Ops;
using Tiller.Tokens;

namespace Tiller.Model;

/// <summary>How to load a model.</summary>
public sealed record LoadOptions
{
    /// <summary>Threads that share one step on the CPU; 0 (default) takes one per processor.</summary>
    public int Threads { get; init; }

    /// <summary>
    /// What runs the arithmetic. Null (default) is what the environment's TILLER_DEVICE names (<see cref="Device.Parse"/>), else
    /// <see cref="Device.Auto"/>.
    /// </summary>
    public Device? Device { get; init; }

    /// <summary>
    /// A text that needs a byte or character that the vocabulary has no token for is refused; by default it is left out, as the published tokenizer
    /// does (<see cref="EncodedText.Dropped"/>).
    /// </summary>
    public bool Strict { get; init; }

    /// <summary>Told the bytes of weights read so far, by one thread at a time.</summary>
    public IProgress<long>? Progress { get; init; }
}

/// <summary>
/// A checkpoint ready to run: configuration, tokenizer, weights on a device. Immutable after loading and safe to share between threads;
/// each sequence has its own <c>Session</c>. It may be disposed of at any time, on any thread: what is under way, such as a step, ends first, and the
/// weights are freed when nothing is; whatever comes after that for the model or its sessions, but for their own disposal, throws
/// <see cref="ObjectDisposedException"/>. Work made of many steps, such as a fit or a text, throws it at its next step.
/// </summary>
public sealed class LanguageModel : IDisposable
{
    private readonly ModelWeights _weights;
    private readonly Tokenizer? _tokenizer;
    private readonly Lazy<ChatFormat> _chat;
    private readonly Lazy<IReadOnlyList<int>> _endIds;

    private LanguageModel(LoadableCheckpoint checkpoint, DeviceOps ops, ModelWeights weights)
    {
        (Directory, Name, Fingerprint) = (checkpoint.Folder.Path, checkpoint.Folder.Name, checkpoint.Folder.Fingerprint);
        (Config, _tokenizer, Warnings) = (checkpoint.Config, checkpoint.Tokenizer, checkpoint.Warnings);
        (_chat, _endIds, Ops, _weights) = (checkpoint.Chat, checkpoint.EndIds, ops, weights);
        Lifetime = NewLifetime();
    }

    private LanguageModel(ModelConfig config, Tokenizer? tokenizer, DeviceOps ops, ModelWeights weights)
    {
        const string Random = "random";
        (Directory, Name, Fingerprint, Warnings) = (Random, Random, Random, []);
        (Config, _tokenizer, Ops, _weights) = (config, tokenizer, ops, weights);
        _chat = new Lazy<ChatFormat>(() => ChatFormat.Load(Random, Tokenizer));
        _endIds = new Lazy<IReadOnlyList<int>>(config.EosIds);
        Lifetime = NewLifetime();
    }

    /// <summary>The checkpoint's folder: the one given, or the snapshot it stands for.</summary>
    public string Directory { get; }

    /// <summary>The folder's name, for messages and files; of a snapshot in the Hugging Face cache ORG/NAME.</summary>
    public string Name { get; }

    /// <summary>Shape and family.</summary>
    public ModelConfig Config { get; }

    /// <summary>Text to ids and back.</summary>
    /// <exception cref="InvalidOperationException">The model has random weights and no vocabulary.</exception>
    public Tokenizer Tokenizer
        => _tokenizer ?? throw new InvalidOperationException("A model with random weights has no tokenizer; give it token ids.");

    /// <summary>Whether ids are text: not those of random weights without a vocabulary.</summary>
    internal bool HasTokenizer => _tokenizer is not null;

    /// <summary>How messages become ids.</summary>
    /// <exception cref="TillerException">The checkpoint has no chat template, or one Tiller does not know.</exception>
    public ChatFormat Chat => _chat.Value;

    /// <summary>
    /// Ids that end a text, plain or chat: those of config.json and generation_config.json, eos_token of tokenizer_config.json, and what ends an
    /// answer in the checkpoint's chat format, if that is known. Empty if none of them names one.
    /// </summary>
    public IReadOnlyList<int> EndIds => _endIds.Value;

    /// <summary>SHA-256 over config.json, the tensors' names, types and shapes, and tokenizer.json: what a controller is bound to.</summary>
    public string Fingerprint { get; }

    /// <summary>What runs the arithmetic: the CPU or a CUDA device.</summary>
    public Device Device => Ops is CudaOps cuda ? Device.Cuda(cuda.Ordinal) : Device.Cpu;

    /// <summary>What runs the arithmetic, for people: its kind and name, or its vectors and threads.</summary>
    public string DeviceDescription => Ops.Device;

    /// <summary>Bytes of weights on the device.</summary>
    public long WeightsInBytes => _weights.SizeInBytes;

    /// <summary>Oddities of the checkpoint's files that did not keep it from loading, one sentence each.</summary>
    public IReadOnlyList<string> Warnings { get; }

    internal DeviceOps Ops { get; }

    /// <summary>Whether a device that can may begin a session's next step before the host knows its token; default true.</summary>
    internal bool RunsAhead { get; set; } = true;

    /// <summary>Its uses: whatever runs the model takes one for as long as that lasts, and one for each step where there are many.</summary>
    internal Lifetime Lifetime { get; }

    /// <summary>Loads a Hugging Face checkpoint folder.</summary>
    /// <param name="directory">
    /// Holds config.json, tokenizer.json and model.safetensors or its shards; or is a model's folder in the Hugging Face cache
    /// (<c>models--ORG--NAME</c>), which stands for its snapshot of main; or its name there, <c>ORG/NAME</c>.
    /// </param>
    /// <param name="options">Null for the defaults.</param>
    /// <param name="cancellationToken">Checked between files, and between chunks of 4 MiB.</param>
    /// <exception cref="DeviceUnavailableException">The device asked for is not there.</exception>
    /// <exception cref="TillerException">A file is missing, malformed or of an unknown family; or memory is short.</exception>
    public static LanguageModel Load(string directory, LoadOptions? options = null, CancellationToken cancellationToken = default)
    {
        options ??= new LoadOptions();
        using var checkpoint = LoadableCheckpoint.Open(directory, options.Strict, cancellationToken);
        cancellationToken.ThrowIfCancellationRequested();

        var ops = Devices.Open(options.Device, options.Threads);
        try
        {
            var weights = ModelWeights.Load(ops, checkpoint.Folder, checkpoint.Config, options.Progress, cancellationToken);
            return new LanguageModel(checkpoint, ops, weights);
        }
        catch
        {
            ops.Dispose();
            throw;
        }
    }

    /// <summary>A model of any shape for measurements: weights drawn from a seed.</summary>
    /// <param name="config">Its shape.</param>
    /// <param name="type">F32, F16 or BF16.</param>
    /// <param name="options">Threads and device.</param>
    /// <param name="tokenizer">Another model's, with at most as many ids; null for none.</param>
    internal static LanguageModel WithRandomWeights(ModelConfig config, TensorType type, LoadOptions? options = null, Tokenizer? tokenizer = null)
    {
        var ops = Devices.Open(options?.Device, options?.Threads ?? 0);
        try
        {
            return new LanguageModel(config, tokenizer, ops, ModelWeights.Random(ops, config, type));
        }
        catch
        {
            ops.Dispose();
            throw;
        }
    }

    /// <inheritdoc/>
    public void Dispose() => Lifetime.Close();

    /// <summary>Begins a use of the model: a step, or work that is made of steps.</summary>
    /// <exception cref="ObjectDisposedException">The model has been disposed of.</exception>
    internal Lifetime.Use Enter() => Lifetime.Enter();

    /// <summary>Steps of one batch of this model.</summary>
    internal Stepper NewStepper() => Ops.NewStepper(Config, Step);

    /// <summary>Scratch for passes of this model.</summary>
    internal Activations NewActivations() => new(Ops, Config);

    /// <summary>Scratch for pullbacks of this model.</summary>
    internal Cotangents NewCotangents() => new(Ops, Config);

    /// <summary>An empty cache.</summary>
    internal KvCache NewCache() => new(Ops, Config);

    /// <summary>Refuses a law made for a model of another shape.</summary>
    /// <exception cref="ModelMismatchException">L or D differ.</exception>
    internal void CheckLaw(FeedbackLaw law)
    {
        if (law.Layers != Config.L || law.Width != Config.D)
        {
            throw new ModelMismatchException($"The feedback law is for {law.Layers} layers of width {law.Width}; "
                + $"the model has {Config.L} of width {Config.D}.");
        }
    }

    /// <summary>Readies <paramref name="law"/> for one sequence of this model.</summary>
    /// <exception cref="ModelMismatchException">L or D differ.</exception>
    internal SteeringState NewSteering(FeedbackLaw law)
    {
        CheckLaw(law);
        return Ops.NewSteering(law);
    }

    /// <summary>Opens a pass: positions and embeddings of a batch, which is what enters block 0.</summary>
    internal void Embed(RowBatch rows, Activations a) => Ops.Begin(Config, _weights.Frequencies, _weights.Embedding, rows, a);

    /// <summary>Opens a pass of a batch whose residual stream the caller has set.</summary>
    internal void Begin(RowBatch rows, Activations a) => Ops.Begin(Config, _weights.Frequencies, null, rows, a);

    /// <summary>Block k, from <see cref="Activations.X"/> to <see cref="Activations.Y"/>.</summary>
    internal void Forward(int k, RowBatch rows, Activations a) => Block.Forward(Ops, Config, k, _weights.Blocks[k], rows, a);

    /// <summary>Block k backwards, on <see cref="Cotangents.Stream"/>.</summary>
    internal void Pullback(int k, RowBatch rows, Activations a, RowGroups groups, Cotangents y) =>
        Block.Pullback(Ops, Config, k, _weights.Blocks[k], rows, a, groups, y);

    /// <summary>Logits of value rows [row, row + count) of what left the last block.</summary>
    internal void Head(Activations a, int row, int count, Floats logits) => Ops.Head(Config, _weights.Norm, _weights.Head, a, row, count, logits);

    private Lifetime NewLifetime() => new(
        nameof(LanguageModel), $"The model {Name} has been disposed of: load it again, or dispose of it once its work is done.", Free);

    private void Free()
    {
        Ops.Settle();
        _weights.Dispose();
        Ops.Dispose();
    }

    // The stages of a step.
    private void Step(RowBatch rows, Activations a, Floats logits, CancellationToken cancellationToken)
    {
        Embed(rows, a);
        for (int k = 0; k < Config.L; k++)
        {
            cancellationToken.ThrowIfCancellationRequested();
            Forward(k, rows, a);
            a.Advance();
        }

        cancellationToken.ThrowIfCancellationRequested();
        Head(a, 0, rows.Filled, logits);
    }
}

/// <summary>Two things that belong to different models were put together.</summary>
public sealed class ModelMismatchException : TillerException
{
    /// <summary>Creates the error.</summary>
    public ModelMismatchException(string message)
        : base(message)
    {
    }
}
