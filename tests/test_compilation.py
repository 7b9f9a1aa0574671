import jax

from relstab_jax.compilation import CompilationCache, processor


def test_the_cache_is_in_the_users_cache_folder_unless_another_is_set(tmp_path, monkeypatch):
    named = jax.config.jax_compilation_cache_dir
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    try:
        CompilationCache()
        assert jax.config.jax_compilation_cache_dir == named
        jax.config.update("jax_compilation_cache_dir", None)
        CompilationCache()
        assert jax.config.jax_compilation_cache_dir == str(tmp_path / "relstab_jax" / processor())
    finally:
        jax.config.update("jax_compilation_cache_dir", named)
