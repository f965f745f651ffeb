using System.Diagnostics;
using Tiller.Chat;
using Tiller.Checkpoint;
using Tiller.Cpu;
using Tiller.Cuda;
using Tiller.Kernels;
using Tiller.Law;
using Tiller.Ops;
using Tiller.Tokens;

namespace Tiller.Model;

/// <summary>How to load a model.</summary>
public sealed record LoadOptions
{
    /// <summary>Number of threads that share one step on the CPU; 0 (default) means one per processor.</summary>
    public int Threads { get; init; }

    /// <summary>
    /// The device that runs the model. Null (default) means the device that the environment variable TILLER_DEVICE names
    /// (<see cref="Device.Parse"/>), or <see cref="Device.Auto"/> if it is not set.
    /// </summary>
    public Device? Device { get; init; }

    /// <summary>
    /// How keys and values are stored; default float32. In bfloat16, on the CPU only, they take half the memory, and long texts are decoded faster;
    /// the logits change by the rounding.
    /// </summary>
    public KvType KvType { get; init; }

    /// <summary>
    /// Whether to refuse a text with a byte or character for which the vocabulary has no token. By default such characters are left out, as the
    /// published tokenizer does (<see cref="EncodedText.Dropped"/>).
    /// </summary>
    public bool Strict { get; init; }

    /// <summary>Receives the number of bytes of weights read so far, from one thread at a time.</summary>
    public IProgress<long>? Progress { get; init; }
}

/// <summary>
/// A checkpoint that is ready to run: configuration, tokenizer, and weights on a device. It is immutable after loading and safe to share between
/// threads; each sequence has its own <c>Session</c>. Any thread may dispose of it at any time: calls under way, such as a step, end first, and the
/// weights are freed after the last of them. Later calls on the model or its sessions, except their own disposal, throw
/// <see cref="ObjectDisposedException"/>. Work that consists of many steps, such as a fit or a generation, throws it at its next step.
/// </summary>
public sealed class LanguageModel : IDisposable
{
    private const string RandomName = "random";

    private readonly ModelWeights _weights;
    private readonly CheckpointFingerprint? _fingerprint; // null for random weights
    private readonly Tokenizer? _tokenizer;
    private readonly Lazy<ChatFormat> _chat;
    private readonly Lazy<IReadOnlyList<int>> _endIds;

    private LanguageModel(LoadableCheckpoint checkpoint, DeviceOps ops, ModelWeights weights, KvType kvType)
    {
        (Directory, Name, _fingerprint) = (checkpoint.Folder.Path, checkpoint.Folder.Name, checkpoint.Folder.LazyFingerprint);
        (Config, _tokenizer, Warnings) = (checkpoint.Config, checkpoint.Tokenizer, checkpoint.Warnings);
        (_chat, _endIds, Ops, _weights, KvType) = (checkpoint.Chat, checkpoint.EndIds, ops, weights, kvType);
        IsCheckpoint = true;
        Lifetime = NewLifetime();
    }

    private LanguageModel(ModelConfig config, Tokenizer? tokenizer, DeviceOps ops, ModelWeights weights, KvType kvType)
    {
        (Directory, Name, Warnings) = (RandomName, RandomName, []);
        (Config, _tokenizer, Ops, _weights, KvType) = (config, tokenizer, ops, weights, kvType);
        _chat = new Lazy<ChatFormat>(() => ChatFormat.Load(RandomName, Tokenizer));
        _endIds = new Lazy<IReadOnlyList<int>>(config.EosIds);
        Lifetime = NewLifetime();
    }

    /// <summary>The checkpoint's folder: the given one, or its snapshot if the given folder is one of the Hugging Face cache.</summary>
    public string Directory { get; }

    /// <summary>The folder's name, for messages and files; ORG/NAME for a snapshot in the Hugging Face cache.</summary>
    public string Name { get; }

    /// <summary>Shape and family of the model.</summary>
    public ModelConfig Config { get; }

    /// <summary>Turns text into token ids and back.</summary>
    /// <exception cref="InvalidOperationException">The model has random weights and no tokenizer.</exception>
    public Tokenizer Tokenizer
        => _tokenizer ?? throw new InvalidOperationException("A model with random weights has no tokenizer; give it token ids.");

    /// <summary>Whether the model has a tokenizer. A model with random weights may have none.</summary>
    internal bool HasTokenizer => _tokenizer is not null;

    /// <summary>Whether the weights are those of a checkpoint, not random ones.</summary>
    internal bool IsCheckpoint { get; }

    /// <summary>Turns chat messages into token ids.</summary>
    /// <exception cref="TillerException">The checkpoint has no chat template, or one that Tiller cannot interpret.</exception>
    public ChatFormat Chat => _chat.Value;

    /// <summary>
    /// Ids that end a text, plain or chat: those in config.json and generation_config.json, eos_token of tokenizer_config.json, and the ids that end
    /// an answer in the checkpoint's chat format, if it has one. Empty if none of these names an id.
    /// </summary>
    public IReadOnlyList<int> EndIds => _endIds.Value;

    /// <summary>
    /// SHA-256 over config.json, the names, types and shapes of the tensors, and tokenizer.json. A controller is bound to this fingerprint. It is
    /// computed on first use.
    /// </summary>
    /// <exception cref="CheckpointException">config.json or tokenizer.json cannot be read any more, or has changed since it was loaded.</exception>
    public string Fingerprint => _fingerprint?.Value ?? RandomName;

    /// <summary>
    /// What measurements, texts and scores of the model belong to, where they are kept: the fingerprint, and how keys and values are stored if not in
    /// float32.
    /// </summary>
    /// <exception cref="CheckpointException">As for <see cref="Fingerprint"/>.</exception>
    internal string Identity => KvType == KvType.F32 ? Fingerprint : $"{Fingerprint} {KvType}";

    /// <summary>The device that runs the model: the CPU or a CUDA device.</summary>
    public Device Device => Ops is CudaOps cuda ? Device.Cuda(cuda.Ordinal) : Device.Cpu;

    /// <summary>A description of the device for people: kind and name of a GPU, or vector width and threads of the CPU.</summary>
    public string DeviceDescription => Ops.Device;

    /// <summary>Size of the weights on the device in bytes.</summary>
    public long WeightsInBytes => _weights.SizeInBytes;

    /// <summary>How the keys and values of its sequences are stored.</summary>
    public KvType KvType { get; }

    /// <summary>Peculiarities of the checkpoint's files that did not prevent loading, one sentence each.</summary>
    public IReadOnlyList<string> Warnings { get; }

    internal DeviceOps Ops { get; }

    /// <summary>Whether a capable device may begin a session's next step before the host knows its token; default true.</summary>
    internal bool RunsAhead { get; set; } = true;

    /// <summary>
    /// Counts the uses of the model. A call that runs the model is one use; work that consists of many steps takes one use for each step.
    /// </summary>
    internal Lifetime Lifetime { get; }

    /// <summary>Loads a Hugging Face checkpoint folder.</summary>
    /// <param name="directory">
    /// A folder with config.json, tokenizer.json and model.safetensors or its shards. It may also be a model's folder in the Hugging Face cache
    /// (<c>models--ORG--NAME</c>), whose snapshot of main is then loaded, or the model's name in that cache, <c>ORG/NAME</c>.
    /// </param>
    /// <param name="options">Null for the defaults.</param>
    /// <param name="cancellationToken">Checked between files and between chunks of 4 MiB.</param>
    /// <exception cref="DeviceUnavailableException">The requested device is not available.</exception>
    /// <exception cref="KvTypeException">The device does not store keys and values in the requested type.</exception>
    /// <exception cref="TillerException">A file is missing, malformed or of an unknown family, or there is not enough memory.</exception>
    public static LanguageModel Load(string directory, LoadOptions? options = null, CancellationToken cancellationToken = default)
    {
        options ??= new LoadOptions();
        using var checkpoint = LoadableCheckpoint.Open(directory, options.Strict, cancellationToken);
        cancellationToken.ThrowIfCancellationRequested();

        var ops = Devices.Open(options.Device, options.Threads);
        try
        {
            Check(options.KvType, ops);
            var weights = ModelWeights.Load(ops, checkpoint.Folder, checkpoint.Config, options.Progress, cancellationToken);
            return new LanguageModel(checkpoint, ops, weights, options.KvType);
        }
        catch
        {
            ops.Dispose();
            throw;
        }
    }

    /// <summary>Creates a model of any shape with random weights from a fixed seed, for measurements.</summary>
    /// <param name="config">The model's shape.</param>
    /// <param name="type">F32, F16 or BF16.</param>
    /// <param name="options">Threads and device.</param>
    /// <param name="tokenizer">The tokenizer of another model, with at most as many ids; null for none.</param>
    internal static LanguageModel WithRandomWeights(ModelConfig config, TensorType type, LoadOptions? options = null, Tokenizer? tokenizer = null)
    {
        options ??= new LoadOptions();
        var ops = Devices.Open(options.Device, options.Threads);
        try
        {
            Check(options.KvType, ops);
            return new LanguageModel(config, tokenizer, ops, ModelWeights.Random(ops, config, type), options.KvType);
        }
        catch
        {
            ops.Dispose();
            throw;
        }
    }

    private static void Check(KvType type, DeviceOps ops)
    {
        if (type != KvType.F32 && ops is not CpuOps)
        {
            throw new KvTypeException(type, ops.Device);
        }
    }

    /// <inheritdoc/>
    public void Dispose() => Lifetime.Close();

    /// <summary>Begins a use of the model: a step, or work that consists of steps.</summary>
    /// <exception cref="ObjectDisposedException">The model has been disposed of.</exception>
    internal Lifetime.Use Enter() => Lifetime.Enter();

    /// <summary>Creates the stepper of one batch of this model.</summary>
    internal Stepper NewStepper() => Ops.NewStepper(Config, Step);

    /// <summary>Creates scratch memory for passes of this model.</summary>
    internal Activations NewActivations() => new(Ops, Config);

    /// <summary>Creates scratch memory for pullbacks of this model.</summary>
    internal Cotangents NewCotangents() => new(Ops, Config);

    /// <summary>Creates an empty KV cache.</summary>
    internal KvCache NewCache() => new(Ops, Config, type: KvType);

    /// <summary>Size in bytes of a KV cache for so many positions.</summary>
    internal long KvBytesFor(int positions) => KvCache.SizeInBytesFor(Config, positions, KvType);

    /// <summary>Throws if a law is for a model of another shape.</summary>
    /// <exception cref="ModelMismatchException">L or D differs.</exception>
    internal void CheckLaw(FeedbackLaw law)
    {
        if (law.Layers != Config.L || law.Width != Config.D)
        {
            throw new ModelMismatchException($"The feedback law is for {law.Layers} layers of width {law.Width}; "
                + $"the model has {Config.L} of width {Config.D}.");
        }
    }

    /// <summary>Creates the steering state of <paramref name="law"/> for one sequence of this model.</summary>
    /// <exception cref="ModelMismatchException">L or D differs.</exception>
    internal SteeringState NewSteering(FeedbackLaw law)
    {
        CheckLaw(law);
        Debug.Assert(law.Conditions.Count == 0, "a law is decided for a prompt before it acts");
        return Ops.NewSteering(law);
    }

    /// <summary>Starts a pass with the positions and embeddings of a batch, the input of block 0.</summary>
    internal void Embed(RowBatch rows, Activations a) => Ops.Begin(Config, _weights.Frequencies, _weights.Embedding, rows, a);

    /// <summary>Starts a pass of a batch whose residual stream the caller has set.</summary>
    internal void Begin(RowBatch rows, Activations a) => Ops.Begin(Config, _weights.Frequencies, null, rows, a);

    /// <summary>Runs block k, from <see cref="Activations.X"/> to <see cref="Activations.Y"/>.</summary>
    /// <param name="k">The block.</param>
    /// <param name="rows">The batch.</param>
    /// <param name="a">Its way.</param>
    /// <param name="continues">Whether the next block is run next, on the output of this one.</param>
    internal void Forward(int k, RowBatch rows, Activations a, bool continues = false) =>
        Block.Forward(Ops, Config, k, _weights.Blocks[k], rows, a, continues && k + 1 < Config.L ? _weights.Blocks[k + 1] : null);

    /// <summary>Runs block k backwards, on <see cref="Cotangents.Stream"/>.</summary>
    internal void Pullback(int k, RowBatch rows, Activations a, RowGroups groups, Cotangents y) =>
        Block.Pullback(Ops, Config, k, _weights.Blocks[k], rows, a, groups, y);

    /// <summary>Computes the logits of value rows [row, row + count) from the output of the last block.</summary>
    internal void Head(Activations a, int row, int count, Floats logits) => Ops.Head(Config, _weights.Norm, _weights.Head, a, row, count, logits);

    private Lifetime NewLifetime() => new(
        nameof(LanguageModel), $"The model {Name} has been disposed of: load it again, or dispose of it once its work is done.", Free);

    private void Free()
    {
        Ops.Settle();
        _weights.Dispose();
        Ops.Dispose();
    }

    // Runs the stages of a step.
    private void Step(RowBatch rows, Activations a, Floats logits, CancellationToken cancellationToken)
    {
        Embed(rows, a);
        for (int k = 0; k < Config.L; k++)
        {
            cancellationToken.ThrowIfCancellationRequested();
            Forward(k, rows, a, continues: true);
            a.Advance();
        }

        cancellationToken.ThrowIfCancellationRequested();
        Head(a, 0, rows.Filled, logits);
    }
}

/// <summary>Two objects that belong to different models were combined.</summary>
public sealed class ModelMismatchException : TillerException
{
    /// <summary>Creates the error.</summary>
    public ModelMismatchException(string message)
        : base(message)
    {
    }
}
