using Tiller.Checkpoint;
using Tiller.Ops;

namespace Tiller.Cpu;

/// <summary>Steps on the CPU run when they are called, and the host draws.</summary>
internal sealed class CpuStepper(CpuOps ops, ModelConfig c, StepStages stages) : Stepper(ops, c, stages);
