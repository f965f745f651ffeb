using System.Reflection;
using System.Runtime.CompilerServices;

namespace Tiller.Tests;

/// <summary>Lists the public types and members of a library, in the form of its PublicAPI.txt.</summary>
internal static class PublicSurface
{
    private const string Rewrite = "TILLER_REWRITE_DOCS";

    private const BindingFlags Declared =
        BindingFlags.Public | BindingFlags.NonPublic | BindingFlags.Instance | BindingFlags.Static | BindingFlags.DeclaredOnly;

    private static readonly NullabilityInfoContext s_nullability = new();

    /// <summary>Asserts that a library has exactly the public members in its PublicAPI.txt, or rewrites that file.</summary>
    /// <param name="library">The library's folder in src.</param>
    /// <param name="assembly">The library's assembly.</param>
    public static void Check(string library, Assembly assembly)
    {
        string path = Repository.Path("src", library, "PublicAPI.txt"), surface = string.Concat(Lines(assembly).Select(l => l + "\n"));
        if (Environment.GetEnvironmentVariable(Rewrite) == "1")
        {
            File.WriteAllText(path, surface);
        }

        Assert.That(File.Exists(path) ? File.ReadAllText(path).ReplaceLineEndings("\n") : "", Is.EqualTo(surface),
            $"src/{library}/PublicAPI.txt is not the library's public surface. If the change is meant, write it anew: "
            + $"{Rewrite}=1 dotnet test -c Release --filter PublicSurfaceTests");
    }

    private static IEnumerable<string> Lines(Assembly assembly) => Lines(assembly.GetExportedTypes());

    public static IEnumerable<string> Lines(IEnumerable<Type> types) =>
        types.OrderBy(NameOf, StringComparer.Ordinal).SelectMany(type => MembersOf(type).Order(StringComparer.Ordinal).Prepend(Declaration(type)));

    private static string Declaration(Type type)
    {
        string kind = type.IsEnum ? "enum" : typeof(Delegate).IsAssignableFrom(type) ? "delegate" : type.IsInterface ? "interface"
            : type.IsValueType ? "struct" : type.IsAbstract && type.IsSealed ? "static class" : type.IsAbstract ? "abstract class" : "class";
        bool hasBase = kind is "class" or "abstract class" && type.BaseType is { } b && b != typeof(object);
        string[] from =
        [
            .. hasBase ? [NameOf(type.BaseType!)] : Array.Empty<string>(),
            .. kind is "enum" or "delegate" ? (IEnumerable<string>)[] : type.GetInterfaces().Except(type.BaseType?.GetInterfaces() ?? [])
                .Where(i => i.IsVisible).Select(NameOf).Order(StringComparer.Ordinal),
        ];
        return $"{kind} {NameOf(type)}{(from.Length > 0 ? $" : {string.Join(", ", from)}" : "")}";
    }

    private static IEnumerable<string> MembersOf(Type type)
    {
        string name = NameOf(type) + ".";
        if (typeof(Delegate).IsAssignableFrom(type))
        {
            var invoke = type.GetMethod("Invoke")!;
            yield return $"{name}Invoke({Parameters(invoke)}) -> {TypeOf(invoke.ReturnParameter)}";
            yield break;
        }

        foreach (var field in type.GetFields(Declared).Where(f => (f.IsPublic || f.IsFamily || f.IsFamilyOrAssembly) && !f.IsSpecialName))
        {
            yield return type.IsEnum
                ? $"{name}{field.Name} = {Convert.ToInt64(field.GetRawConstantValue()!)}"
                : $"{name}{field.Name} -> {NameOf(field.FieldType)}{(field.IsLiteral ? $" const = {field.GetRawConstantValue()}" : "")}";
        }

        foreach (var property in type.GetProperties(Declared))
        {
            string[] accessors =
            [
                .. Visible(property.GetMethod) ? ["get;"] : Array.Empty<string>(),
                .. !Visible(property.SetMethod) ? [] : new[] { IsInit(property.SetMethod!) ? "init;" : "set;" },
            ];
            if (accessors.Length > 0)
            {
                string index = property.GetIndexParameters() is { Length: > 0 } p
                    ? $"[{string.Join(", ", p.Select(i => NameOf(i.ParameterType)))}]"
                    : "";
                string needed = property.IsDefined(typeof(RequiredMemberAttribute)) ? "required " : "";
                yield return $"{name}{property.Name}{index} -> {needed}{TypeOf(s_nullability.Create(property))} {{ {string.Join(' ', accessors)} }}";
            }
        }

        foreach (var constructor in type.GetConstructors(Declared).Where(c => Visible(c) && !c.IsStatic && !IsGenerated(c)))
        {
            yield return $"{name}{type.Name.Split('`')[0]}({Parameters(constructor)})";
        }

        foreach (var method in type.GetMethods(Declared).Where(m => Visible(m) && !IsGenerated(m)
            && (!m.IsSpecialName || m.Name.StartsWith("op_", StringComparison.Ordinal))))
        {
            string generic = method.IsGenericMethod ? $"<{string.Join(", ", method.GetGenericArguments().Select(a => a.Name))}>" : "";
            yield return $"{name}{method.Name}{generic}({Parameters(method)}) -> {TypeOf(method.ReturnParameter)}";
        }
    }

    private static bool Visible(MethodBase? method) => method is { } m && (m.IsPublic || m.IsFamily || m.IsFamilyOrAssembly);

    // Members that the compiler generates, as for records, follow from the other members.
    private static bool IsGenerated(MemberInfo member) => member.IsDefined(typeof(CompilerGeneratedAttribute));

    private static bool IsInit(MethodInfo setter) => setter.ReturnParameter.GetRequiredCustomModifiers().Contains(typeof(IsExternalInit));

    private static string Parameters(MethodBase method) => string.Join(", ", method.GetParameters().Select(p =>
        $"{(p.IsOut ? "out " : p.IsIn ? "in " : p.ParameterType.IsByRef ? "ref " : "")}{TypeOf(p)} {p.Name}"
        + (p.HasDefaultValue ? $" = {p.DefaultValue ?? "default"}" : "")));

    private static string TypeOf(ParameterInfo parameter) => parameter.ParameterType.IsByRef || parameter.ParameterType.IsPointer
        ? NameOf(parameter.ParameterType)
        : TypeOf(s_nullability.Create(parameter));

    private static string TypeOf(NullabilityInfo info)
    {
        if (info.Type.IsValueType)
        {
            return NameOf(info.Type);
        }

        string name = info.ElementType is { } element ? TypeOf(element) + "[]"
            : info.GenericTypeArguments.Length > 0 ? $"{Bare(info.Type)}<{string.Join(", ", info.GenericTypeArguments.Select(TypeOf))}>"
            : NameOf(info.Type);
        return info.ReadState == NullabilityState.Nullable && !info.Type.IsGenericParameter ? name + "?" : name;
    }

    private static string NameOf(Type type)
    {
        if (type.HasElementType)
        {
            string mark = type.IsArray ? "[]" : type.IsPointer ? "*" : "";
            return NameOf(type.GetElementType()!) + mark;
        }

        if (type.IsGenericParameter || type.IsFunctionPointer)
        {
            return type.Name;
        }

        if (Nullable.GetUnderlyingType(type) is { } value)
        {
            return NameOf(value) + "?";
        }

        var arguments = type.GetGenericArguments();
        return arguments.Length > 0 ? $"{Bare(type)}<{string.Join(", ", arguments.Select(NameOf))}>" : Bare(type);
    }

    private static string Bare(Type type) => type.IsEnum ? Qualified(type) : Type.GetTypeCode(type) switch
    {
        TypeCode.Boolean => "bool",
        TypeCode.Byte => "byte",
        TypeCode.Double => "double",
        TypeCode.Int32 => "int",
        TypeCode.Int64 => "long",
        TypeCode.Single => "float",
        TypeCode.String => "string",
        TypeCode.UInt32 => "uint",
        TypeCode.UInt64 => "ulong",
        _ => type == typeof(void) ? "void" : type == typeof(object) ? "object" : type == typeof(nint) ? "nint" : Qualified(type),
    };

    private static string Qualified(Type type) =>
        (type.IsNested ? NameOf(type.DeclaringType!) : type.Namespace) + "." + type.Name.Split('`')[0];
}
