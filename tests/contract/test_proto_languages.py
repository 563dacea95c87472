"""The contracts can be generated for other languages, and no name there has to be escaped."""

import re
from collections import Counter
from collections.abc import Iterator

import pytest
from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto

from tests.contract.test_proto_rules import FILES, enums, messages, rpcs

KEYWORDS = {
    # The last words of each list are no keywords, but names that the generated class has itself.
    "Go": """break case chan const continue default defer else fallthrough for func go goto if import interface map
        package range return select struct switch type var descriptor marshal unmarshal proto_message reset
        string extension_map extension_range_array""",
    "Java": """abstract assert boolean break byte case catch char class const continue default do double else enum
        extends false final finally float for goto if implements import instanceof int interface long native new
        null package private protected public return short static strictfp super switch synchronized this throw
        throws transient true try void volatile while _ all_fields cached_size descriptor_for_type
        initialization_error_string parser_for_type serialized_size unknown_fields""",
    "C#": """abstract as base bool break byte case catch char checked class const continue decimal default delegate
        do double else enum event explicit extern false finally fixed float for foreach goto if implicit in int
        interface internal is lock long namespace new null object operator out override params private protected
        public readonly ref return sbyte sealed short sizeof stackalloc static string struct switch this throw
        true try typeof uint ulong unchecked unsafe ushort using virtual void volatile while calculate_size
        clone descriptor equals get_hash_code get_type merge_from parser to_string types write_to""",
    "Rust": """as async await break const continue crate dyn else enum extern false fn for gen if impl in let loop
        match mod move mut pub ref return self static struct super trait true type unsafe use where while
        abstract become box do final macro override priv try typeof unsized virtual yield""",
    "TypeScript": """any arguments as async await boolean break case catch class const continue debugger declare default
        delete do else enum eval export extends false finally for from function if implements import in
        instanceof interface let module namespace new null number object package private protected public return
        static string super switch symbol this throw true try type typeof undefined unknown var void while with
        yield constructor to_binary to_json to_string value_of""",
    "Python": """and as assert async await break class continue def del elif else except false finally for from global
        if import in is lambda none nonlocal not or pass raise return true try while with yield match case type""",
    "C++": """alignas alignof and and_eq asm auto bitand bitor bool break case catch char class compl concept const
        consteval constexpr constinit const_cast continue co_await co_return co_yield decltype default delete do
        double dynamic_cast else enum explicit export extern false float for friend goto if inline int long
        mutable namespace new noexcept not not_eq nullptr operator or or_eq private protected public register
        reinterpret_cast requires return short signed sizeof static static_assert static_cast struct switch
        template this thread_local throw true try typedef typeid typename union unsigned using virtual void
        volatile wchar_t while xor xor_eq""",
}
"""Words that a name of a field or package cannot be, by language."""

KEPT = {("TypeScript", "number")}
"""Names that a language takes as they are where ours stand: a property may have the name of a type."""

JAVA_LANG = """Boolean Byte Character Class Deprecated Double Enum Error Exception Float Integer Iterable Long Math
    Module Number Object Override Package Process Record Runtime Short String System Thread Void"""
"""Classes of `java.lang`, which every file of Java sees: a message of the same name would hide one."""

LANGUAGE_OPTIONS = (
    "csharp_namespace",
    "go_package",
    "java_multiple_files",
    "java_outer_classname",
    "java_package",
)


def names() -> Iterator[tuple[str, str]]:
    """Each name that becomes one in another language as it stands, and where it is."""
    for file in FILES:
        yield from ((part, f"package {file.package}") for part in file.package.split("."))
    for message in messages():
        yield from ((field.name, f"{message.name}.{field.name}") for field in message.field)
        yield from ((one.name, f"oneof {message.name}.{one.name}") for one in message.oneof_decl)
    for rpc in rpcs():
        snake = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", rpc.method.name).lower()
        yield snake, f"{rpc.service}/{rpc.method.name}"


@pytest.mark.parametrize("language", KEYWORDS)
def test_no_name_has_to_be_escaped(language: str) -> None:
    words = set(KEYWORDS[language].split())
    taken = {
        where
        for name, where in names()
        if name.removeprefix("_") in words and (language, name) not in KEPT
    }
    assert taken == set()


def test_no_message_hides_a_class_of_java() -> None:
    known = set(JAVA_LANG.split())
    assert {m.name for m in messages() if m.name in known} == set()
    assert {e.name for e in enums() if e.name in known} == set()


def test_no_field_is_called_as_its_message() -> None:
    # C# adds an underscore: a member cannot have the name of its type.
    for message in messages():
        assert message.name not in {_camel(field.name) for field in message.field}


def test_no_two_fields_get_the_same_accessor() -> None:
    # Java has getXCount, getXList, getXBytes and hasX beside getX, and numbers the fields where two meet.
    for message in messages():
        counted = Counter(name for field in message.field for name in _accessors(message, field))
        assert [name for name, count in counted.items() if count > 1] == [], message.name


def _accessors(message: DescriptorProto, field: FieldDescriptorProto) -> Iterator[str]:
    kind = FieldDescriptorProto
    name = _camel(field.name)
    yield name
    if field.type == kind.TYPE_STRING:
        yield f"{name}Bytes"
    if field.label == kind.LABEL_REPEATED:
        entries = {f".{entry.name}" for entry in message.nested_type if entry.options.map_entry}
        is_map = any(field.type_name.endswith(entry) for entry in entries)
        yield from (f"{name}Count", f"{name}Map" if is_map else f"{name}List")
    if field.type == kind.TYPE_ENUM:
        yield f"{name}Value"


def _camel(name: str) -> str:
    return "".join(part[:1].upper() + part[1:] for part in name.split("_"))


def test_every_file_says_what_it_is_in_other_languages() -> None:
    for file in FILES:
        said = {field.name for field, _ in file.options.ListFields()}
        assert set(LANGUAGE_OPTIONS) <= said, file.name
        component = file.package.split(".")[1]
        options = file.options
        assert options.go_package == f"pandawn.alt/pandawn/{component}/v1;{component}v1"
        assert options.java_package == f"alt.pandawn.{component}.v1"
        assert options.csharp_namespace.lower() == file.package
        assert options.java_multiple_files


def test_the_outer_class_of_java_stays_when_messages_are_added() -> None:
    # Without a name, Java takes that of the file and adds to it where a message has the same one.
    seen: set[tuple[str, str]] = set()
    for file in FILES:
        outer = (file.package, file.options.java_outer_classname)
        assert outer[1].endswith("Proto")
        assert outer not in seen
        seen.add(outer)
    assert not {m.name for m in messages()} & {name for _, name in seen}
